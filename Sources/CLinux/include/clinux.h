#ifndef CLINUX_H
#define CLINUX_H
#include <numa.h>
/* C library headers first: the kernel's then leave out what both define. */
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/pfkeyv2.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#endif
