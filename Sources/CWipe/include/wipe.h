#ifndef GW_WIPE_H
#define GW_WIPE_H

// Nothing to call: a program that links this has a free() and a realloc() that wipe.

#endif
