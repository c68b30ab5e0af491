#ifndef CIPSECMB_H
#define CIPSECMB_H
/* Without it gcm_key_data is not aligned as the library's code expects. */
#define LINUX
#include <intel-ipsec-mb.h>

/* Swift does not see the size of an over-aligned struct. */
static const long ipsecmb_gcm_key_size = sizeof(struct gcm_key_data);
#endif
