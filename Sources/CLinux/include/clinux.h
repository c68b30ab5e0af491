#ifndef CLINUX_H
#define CLINUX_H
#include <spawn.h>
#include <numa.h>
/* C library headers first: the kernel's then leave out what both define. */
#include <netinet/in.h>
#include <net/ethernet.h>
#include <netpacket/packet.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/pfkeyv2.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>

/* accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC; -1 and errno. */
int clinux_accept(int listener);
/* Who is at the other end of an AF_UNIX connection (SO_PEERCRED), as of connect(); 0, or -1 and errno. */
int clinux_peer(int socket, pid_t *process, uid_t *user);
/* A datagram of `size` bytes at most, and the descriptor that came with it, closed on exec (-1: none, or several). What
 * recvmsg() returns, and errno. Never waits. */
ssize_t clinux_receive_descriptor(int socket, void *buffer, size_t size, int *descriptor);
/* pipe2 with O_CLOEXEC; 0, or -1 and errno. */
int clinux_pipe(int ends[2]);
/* A program that is started with these actions has no descriptor above standard error. 0, or an error number. */
int clinux_spawn_standard_descriptors_only(posix_spawn_file_actions_t *actions);
/* Of the calling thread; at most 15 bytes are kept. */
void clinux_thread_name(const char *name);
/* Keeps what this process has in memory, keys in any form, from cores, from debuggers of its user and from swap. To be called
 * before there are keys. 0, or -1 where memory cannot be locked (no CAP_IPC_LOCK, and a limit). */
int clinux_keep_memory_private(void);

#endif
