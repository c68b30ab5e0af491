#ifndef GW_WIPE_H
#define GW_WIPE_H

/// Whether this program's free() wipes: false under a sanitizer, which brings an allocator of its own.
int gw_free_wipes(void);

#endif
