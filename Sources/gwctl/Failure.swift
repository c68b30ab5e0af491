import ControlAPI

/// sysexits(3), where a plain 1 would say too little.
enum ExitStatus: Int32 {
  case failure = 1
  case unavailable = 69
  case noPermission = 77
  case configuration = 78
}

/// Ends the program with a message on stderr and a status.
struct Failure: Error {
  var status: ExitStatus
  var lines: [String]

  init(_ status: ExitStatus, _ lines: [String]) {
    self.status = status
    self.lines = lines
  }

  init(_ error: ControlClientError) {
    switch error {
    case .notRunning, .timedOut: status = .unavailable
    case .permission: status = .noPermission
    case .refused(let refusal):
      status =
        switch refusal.kind {
        case .forbidden: .noPermission
        case .unavailable: .unavailable
        default: .failure
        }
    case .transport: status = .failure
    }
    lines = [error.description]
  }
}
