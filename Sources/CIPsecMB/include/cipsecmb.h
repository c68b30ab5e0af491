#ifndef CIPSECMB_H
#define CIPSECMB_H
#define LINUX
#include <intel-ipsec-mb.h>
#endif
