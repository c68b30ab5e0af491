import Testing

/// EAL, pools and rings are the process's: one test at a time.
@Suite(.serialized) enum DataPlaneTests {}
