/* Moves the PF_KEYv2 and NETLINK_XFRM sockets of a key daemon (charon, iked, pluto, ip-xfrm) to the gateway's
 * AF_UNIX/SOCK_SEQPACKET sockets. Everything else passes untouched.
 *
 *   LD_PRELOAD=libikeshim.so charon-systemd
 *
 * Environment, read once at start:
 *   GW_RUN_DIR        where the sockets are (default /run/gw): DIR/pfkey.sock, DIR/xfrm.sock
 *   GW_PFKEY_SOCKET   one socket by its path; set but empty: that family stays with the kernel
 *   GW_XFRM_SOCKET    likewise
 *   GW_IKE_SOCKET     where the daemon's own UDP sockets are named to the gateway: DIR/ike.sock
 *   GW_SHIM_DEBUG     set: say on stderr what is moved
 *
 * There is no table of descriptors: a moved socket is bound to an abstract name that says what it is and which port it
 * has, and each call asks the kernel for that name. So it holds across fork, exec, dup and SCM_RIGHTS (iked hands its
 * PF_KEY socket to a child). errno is left as it was whenever a call passes through. */
#define _GNU_SOURCE
#include "ikeshim.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* `next` becomes the C library's function of this name. */
#define NEXT(result, name, ...)                                         \
  static result (*next)(__VA_ARGS__);                                   \
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name)

enum kind { KIND_OTHER, KIND_PFKEY, KIND_XFRM };

static const char *const kind_names[] = {"other", "pfkey", "xfrm"};

/* Linux's option numbers, which glibc's headers do not all have. */
enum {
  OPTION_IP_IPSEC_POLICY = 16,
  OPTION_IP_XFRM_POLICY = 17,
  OPTION_IPV6_IPSEC_POLICY = 34,
  OPTION_IPV6_XFRM_POLICY = 35,
};

/* The daemon has this long to leave after SIGTERM once the gateway is gone. */
enum { GRACE_SECONDS = 5, EXIT_STATUS = 75 /* EX_TEMPFAIL */ };

/* iked gives its "kernel" 1 ms to answer. */
enum { PFKEY_ANSWER_MILLISECONDS = 2000 };

/* How long the gateway may take to learn of an IKE socket. */
enum { NAMING_SECONDS = 2 };

/* ---- Settings ---- */

static struct {
  /* By kind; empty: not moved. KIND_OTHER: GW_IKE_SOCKET. */
  char path[3][sizeof(((struct sockaddr_un *)0)->sun_path)];
  bool debug;
} settings;

static void set_path(enum kind kind, const char *variable, const char *directory, const char *file) {
  const char *path = getenv(variable);
  char *out = settings.path[kind];
  size_t size = sizeof settings.path[kind];
  int length = path != NULL ? snprintf(out, size, "%s", path) : snprintf(out, size, "%s/%s", directory, file);
  if (length < 0 || (size_t)length >= size) {
    fprintf(stderr, "ikeshim: the path of %s is too long\n", file);
    out[0] = '\0';
  }
}

__attribute__((constructor)) static void read_settings(void) {
  const char *directory = getenv("GW_RUN_DIR");
  if (directory == NULL || directory[0] == '\0') directory = "/run/gw";
  set_path(KIND_PFKEY, "GW_PFKEY_SOCKET", directory, "pfkey.sock");
  set_path(KIND_XFRM, "GW_XFRM_SOCKET", directory, "xfrm.sock");
  set_path(KIND_OTHER, "GW_IKE_SOCKET", directory, "ike.sock");
  settings.debug = getenv("GW_SHIM_DEBUG") != NULL;
}

__attribute__((format(printf, 1, 2))) static void debug(const char *format, ...) {
  if (!settings.debug) return;
  int saved = errno;
  char line[256];
  int start = snprintf(line, sizeof line, "ikeshim[%d]: ", (int)getpid());
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + start, sizeof line - (size_t)start, format, arguments);
  va_end(arguments);
  fprintf(stderr, "%s\n", line);
  errno = saved;
}

/* ---- Which sockets are ours ---- */

static const char name_prefix[] = "ikeshim/"; /* \0ikeshim/KIND/PPPPPPPP, PPPPPPPP the port in hexadecimal */

static socklen_t make_name(struct sockaddr_un *name, enum kind kind, uint32_t port) {
  memset(name, 0, sizeof *name);
  name->sun_family = AF_UNIX;
  int length = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "%s%s/%08x", name_prefix, kind_names[kind], port);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* What `fd` is, and its port. Never changes errno. */
static enum kind kind_of(int fd, uint32_t *port) {
  struct sockaddr_un name;
  socklen_t length = sizeof name;
  int saved = errno;
  memset(&name, 0, sizeof name);
  long result = syscall(SYS_getsockname, fd, &name, &length);
  errno = saved;
  if (result != 0 || name.sun_family != AF_UNIX || name.sun_path[0] != '\0') return KIND_OTHER;
  name.sun_path[sizeof name.sun_path - 1] = '\0';
  if (strncmp(name.sun_path + 1, name_prefix, sizeof name_prefix - 1) != 0) return KIND_OTHER;
  const char *rest = name.sun_path + 1 + sizeof name_prefix - 1;
  for (enum kind kind = KIND_PFKEY; kind <= KIND_XFRM; kind++) {
    size_t size = strlen(kind_names[kind]);
    if (strncmp(rest, kind_names[kind], size) != 0 || rest[size] != '/') continue;
    if (port != NULL) *port = (uint32_t)strtoul(rest + size + 1, NULL, 16);
    return kind;
  }
  return KIND_OTHER;
}

/* Takes a free port: the process's id first, as the kernel does, then ids that no process has. Those are drawn at random,
 * for any user may bind abstract names, and nobody can bind them all. */
static bool bind_port(int fd, enum kind kind) {
  struct sockaddr_un name;
  uint32_t port = (uint32_t)getpid();
  for (int attempt = 0; attempt < 64; attempt++) {
    socklen_t length = make_name(&name, kind, port);
    if (syscall(SYS_bind, fd, &name, length) == 0) return true;
    if (errno != EADDRINUSE) return false;
    if (syscall(SYS_getrandom, &port, sizeof port, 0) != sizeof port) return false;
    port |= 0x80000000u;
  }
  return false;
}

/* Root has given the folder of `path` to `user`: it lies in one where only root makes anything. */
static bool is_roots_choice(const char *path, uid_t user) {
  char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
  struct stat status;
  snprintf(folder, sizeof folder, "%s", path);
  for (int level = 0; level < 2; level++) {
    char *slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder) return false;
    *slash = '\0';
    if (lstat(folder, &status) != 0 || !S_ISDIR(status.st_mode)) return false;
    if (level == 0 && status.st_uid != user) return false;
  }
  return status.st_uid == 0 && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Who listens at the gateway's name is given keys: root, the daemon's own user, or the user that systemd runs gwd as. */
static bool is_trusted(int fd, const char *path) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  if (peer.uid == 0 || peer.uid == geteuid() || is_roots_choice(path, peer.uid)) return true;
  errno = EPERM;
  return false;
}

static int dial(enum kind kind, int type) {
  struct sockaddr_un gateway = {.sun_family = AF_UNIX};
  memcpy(gateway.sun_path, settings.path[kind], sizeof gateway.sun_path);
  int flags = type & (SOCK_CLOEXEC | SOCK_NONBLOCK);
  int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | flags, 0);
  if (fd < 0) return -1;
  if (!bind_port(fd, kind) || syscall(SYS_connect, fd, &gateway, sizeof gateway) != 0 ||
      !is_trusted(fd, gateway.sun_path)) {
    int error = errno;
    fprintf(stderr, "ikeshim: %s: %s\n", gateway.sun_path, strerror(error));
    syscall(SYS_close, fd);
    errno = error;
    return -1;
  }
  debug("socket %d is %s", fd, gateway.sun_path);
  return fd;
}

/* ---- The gateway's end of file ---- */

/* A kernel socket has no end of file, and daemons spin on one: ask for an orderly exit, then insist. The supervisor
 * starts the daemon again. charon waits for an answer for ever, hence the second step. */
static void gateway_is_gone(void) {
  static time_t since; /* a race between threads only repeats the signal */
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (since == 0) {
    since = now.tv_sec + 1;
    fprintf(stderr, "ikeshim: the gateway closed the socket\n");
    kill(getpid(), SIGTERM);
  } else if (now.tv_sec - since > GRACE_SECONDS) {
    _exit(EXIT_STATUS);
  }
  struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
  nanosleep(&pause, NULL);
  errno = ENOBUFS;
}

/* The C library's own, because they are cancellation points: charon cancels threads that wait in them. */
static ssize_t library_sendmsg(int fd, const struct msghdr *message, int flags) {
  NEXT(ssize_t, sendmsg, int, const struct msghdr *, int);
  return next(fd, message, flags);
}

static ssize_t library_recvmsg(int fd, struct msghdr *message, int flags) {
  NEXT(ssize_t, recvmsg, int, struct msghdr *, int);
  return next(fd, message, flags);
}

static ssize_t checked_send(ssize_t result) {
  if (result >= 0 || (errno != EPIPE && errno != ECONNRESET && errno != ENOTCONN)) return result;
  gateway_is_gone();
  return -1;
}

static bool is_overrun(enum kind kind, const void *bytes, size_t size) {
  struct nlmsghdr header;
  if (kind != KIND_XFRM || size < sizeof header) return false;
  memcpy(&header, bytes, sizeof header);
  return header.nlmsg_type == NLMSG_OVERRUN;
}

/* `message` has no name and no control data. */
static ssize_t receive(int fd, enum kind kind, struct msghdr *message, int flags) {
  ssize_t result = library_recvmsg(fd, message, flags);
  if (result == 0 || (result < 0 && (errno == ECONNRESET || errno == ENOTCONN))) {
    gateway_is_gone();
    return -1;
  }
  if (result < 0 || message->msg_iovlen == 0) return result;
  size_t first = message->msg_iov[0].iov_len;
  if (is_overrun(kind, message->msg_iov[0].iov_base, (size_t)result < first ? (size_t)result : first)) {
    char scrap;
    if (flags & MSG_PEEK) syscall(SYS_recvfrom, fd, &scrap, sizeof scrap, MSG_DONTWAIT, NULL, NULL);
    errno = ENOBUFS;
    return -1;
  }
  return result;
}

static ssize_t receive_bytes(int fd, enum kind kind, void *buffer, size_t size, int flags) {
  struct iovec vector = {.iov_base = buffer, .iov_len = size};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  return receive(fd, kind, &message, flags);
}

/* A netlink address as large as the caller has room for; `port` 0 is the kernel. */
static void put_netlink_name(void *name, socklen_t *length, uint32_t port) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_pid = port};
  if (name == NULL || length == NULL) return;
  memcpy(name, &address, *length < sizeof address ? *length : sizeof address);
  *length = sizeof address;
}

static int hello(int fd, uint32_t join, uint32_t leave, uint32_t options, uint32_t options_stated) {
  struct ikeshim_hello message = {
    .header = {.nlmsg_len = sizeof message, .nlmsg_type = NLMSG_NOOP},
    .join = join,
    .leave = leave,
    .options = options,
    .options_stated = options_stated,
  };
  kind_of(fd, &message.port);
  message.header.nlmsg_pid = message.port;
  ssize_t sent = syscall(SYS_sendto, fd, &message, sizeof message, MSG_NOSIGNAL, NULL, 0);
  return checked_send(sent) == (ssize_t)sizeof message ? 0 : -1;
}

/* ---- Sockets ---- */

EXPORT int socket(int domain, int type, int protocol) {
  NEXT(int, socket, int, int, int);
  enum kind kind = KIND_OTHER;
  if (domain == PF_KEY) kind = KIND_PFKEY;
  if (domain == AF_NETLINK && protocol == NETLINK_XFRM) kind = KIND_XFRM;
  if (kind == KIND_OTHER || settings.path[kind][0] == '\0') return next(domain, type, protocol);
  return dial(kind, type);
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t length) {
  NEXT(int, bind, int, const struct sockaddr *, socklen_t);
  if (address == NULL || length < sizeof(struct sockaddr_nl) || address->sa_family != AF_NETLINK) {
    return next(fd, address, length);
  }
  if (kind_of(fd, NULL) != KIND_XFRM) return next(fd, address, length);
  struct sockaddr_nl netlink;
  memcpy(&netlink, address, sizeof netlink);
  return hello(fd, netlink.nl_groups, ~netlink.nl_groups, 0, 0);
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t length) {
  NEXT(int, connect, int, const struct sockaddr *, socklen_t);
  if (address != NULL && length >= sizeof(sa_family_t) && address->sa_family == AF_NETLINK &&
      kind_of(fd, NULL) == KIND_XFRM) {
    return 0;
  }
  return next(fd, address, length);
}

EXPORT int getsockname(int fd, struct sockaddr *address, socklen_t *length) {
  NEXT(int, getsockname, int, struct sockaddr *, socklen_t *);
  uint32_t port = 0;
  if (kind_of(fd, &port) != KIND_XFRM) return next(fd, address, length);
  put_netlink_name(address, length, port);
  return 0;
}

EXPORT int getpeername(int fd, struct sockaddr *address, socklen_t *length) {
  NEXT(int, getpeername, int, struct sockaddr *, socklen_t *);
  if (kind_of(fd, NULL) != KIND_XFRM) return next(fd, address, length);
  put_netlink_name(address, length, 0);
  return 0;
}

static int netlink_option(int fd, int option, const void *value, socklen_t length) {
  int number = 0;
  if (value != NULL && length >= sizeof number) memcpy(&number, value, sizeof number);
  uint32_t group = number >= 1 && number <= 32 ? 1u << (number - 1) : 0;
  uint32_t on = number != 0 ? ~0u : 0;
  switch (option) {
    case NETLINK_ADD_MEMBERSHIP: return hello(fd, group, 0, 0, 0);
    case NETLINK_DROP_MEMBERSHIP: return hello(fd, 0, group, 0, 0);
    case NETLINK_EXT_ACK: return hello(fd, 0, 0, on, IKESHIM_OPTION_EXT_ACK);
    case NETLINK_CAP_ACK: return hello(fd, 0, 0, on, IKESHIM_OPTION_CAP_ACK);
    default: return 0; /* GET_STRICT_CHK, NO_ENOBUFS, … make no difference here */
  }
}

/* ---- The daemon's IKE sockets ---- */

/* One message with the descriptor, and its answer. 0, or an errno. */
static int name_to_gateway(int fd, uint32_t flags) {
  struct sockaddr_un gateway = {.sun_family = AF_UNIX};
  memcpy(gateway.sun_path, settings.path[KIND_OTHER], sizeof gateway.sun_path);
  struct timeval patience = {.tv_sec = NAMING_SECONDS};
  struct ikeshim_socket named = {.flags = flags};
  struct ikeshim_answer answer = {.error = 0};
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
  } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  struct iovec vector = {.iov_base = &named, .iov_len = sizeof named};
  struct msghdr message = {
    .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};

  int channel = (int)syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (channel < 0) return errno;
  syscall(SYS_setsockopt, channel, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  syscall(SYS_setsockopt, channel, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  errno = EPROTO; /* of an answer cut short */
  bool is_told = syscall(SYS_connect, channel, &gateway, sizeof gateway) == 0 &&
                 is_trusted(channel, gateway.sun_path) &&
                 syscall(SYS_sendmsg, channel, &message, MSG_NOSIGNAL) == (long)sizeof named &&
                 syscall(SYS_recvfrom, channel, &answer, sizeof answer, 0, NULL, NULL) == (long)sizeof answer;
  int error = is_told ? answer.error : errno;
  syscall(SYS_close, channel);
  return error;
}

/* A kernel that protects packets lets a socket with a bypass send in clear. Here the gateway is told which one it is. */
static void name_socket(int fd, uint32_t flags) {
  int saved = errno;
  int protocol = 0;
  socklen_t length = sizeof protocol;
  if (settings.path[KIND_OTHER][0] != '\0' &&
      syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_UDP) {
    int error = name_to_gateway(fd, flags);
    if (error != 0) {
      fprintf(stderr, "ikeshim: %s: the gateway does not know of an IKE socket: %s\n", settings.path[KIND_OTHER],
              strerror(error));
    }
    debug("socket %d is for IKE: flags %u, error %d", fd, flags, error);
  }
  errno = saved;
}

/* Per-socket IPsec bypass: done by the gateway, so a kernel that cannot set it is no error. */
static bool is_bypass(int level, int option) {
  return (level == IPPROTO_IP && (option == OPTION_IP_IPSEC_POLICY || option == OPTION_IP_XFRM_POLICY)) ||
         (level == IPPROTO_IPV6 && (option == OPTION_IPV6_IPSEC_POLICY || option == OPTION_IPV6_XFRM_POLICY));
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
  NEXT(int, setsockopt, int, int, int, const void *, socklen_t);
  if (level == SOL_NETLINK && kind_of(fd, NULL) == KIND_XFRM) return netlink_option(fd, option, value, length);
  /* The gateway takes ESP out of UDP before the host sees it; the kernel must not eat what is left. */
  if (level == IPPROTO_UDP && option == UDP_ENCAP) {
    name_socket(fd, IKESHIM_SOCKET_TAKES_ESP);
    return 0;
  }
  if (is_bypass(level, option)) {
    name_socket(fd, 0);
    if (next(fd, level, option, value, length) != 0) debug("bypass option %d: %s, ignored", option, strerror(errno));
    return 0;
  }
  return next(fd, level, option, value, length);
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
  NEXT(int, getsockopt, int, int, int, void *, socklen_t *);
  if (level != SOL_NETLINK || kind_of(fd, NULL) != KIND_XFRM) return next(fd, level, option, value, length);
  if (value != NULL && length != NULL) memset(value, 0, *length);
  return 0;
}

/* ---- Sending ---- */

static ssize_t send_message(int fd, const struct msghdr *message, int flags) {
  struct msghdr plain = {.msg_iov = message->msg_iov, .msg_iovlen = message->msg_iovlen};
  return checked_send(library_sendmsg(fd, &plain, flags | MSG_NOSIGNAL));
}

static ssize_t send_bytes(int fd, const void *bytes, size_t size, int flags) {
  struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  return send_message(fd, &message, flags);
}

EXPORT ssize_t sendto(
  int fd, const void *bytes, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
  NEXT(ssize_t, sendto, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
  if (kind_of(fd, NULL) == KIND_OTHER) return next(fd, bytes, size, flags, address, length);
  return send_bytes(fd, bytes, size, flags);
}

EXPORT ssize_t send(int fd, const void *bytes, size_t size, int flags) {
  NEXT(ssize_t, send, int, const void *, size_t, int);
  return kind_of(fd, NULL) == KIND_OTHER ? next(fd, bytes, size, flags) : send_bytes(fd, bytes, size, flags);
}

EXPORT ssize_t write(int fd, const void *bytes, size_t size) {
  NEXT(ssize_t, write, int, const void *, size_t);
  return kind_of(fd, NULL) == KIND_OTHER ? next(fd, bytes, size) : send_bytes(fd, bytes, size, 0);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  NEXT(ssize_t, sendmsg, int, const struct msghdr *, int);
  return kind_of(fd, NULL) == KIND_OTHER ? next(fd, message, flags) : send_message(fd, message, flags);
}

EXPORT ssize_t writev(int fd, const struct iovec *vectors, int count) {
  NEXT(ssize_t, writev, int, const struct iovec *, int);
  if (kind_of(fd, NULL) == KIND_OTHER) return next(fd, vectors, count);
  struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)vectors, .msg_iovlen = (size_t)count};
  return send_message(fd, &message, 0);
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
  NEXT(int, sendmmsg, int, struct mmsghdr *, unsigned int, int);
  if (kind_of(fd, NULL) == KIND_OTHER) return next(fd, messages, count, flags);
  for (unsigned int sent = 0; sent < count; sent++) {
    ssize_t size = send_message(fd, &messages[sent].msg_hdr, flags);
    if (size < 0) return sent == 0 ? -1 : (int)sent;
    messages[sent].msg_len = (unsigned int)size;
  }
  return (int)count;
}

/* ---- Receiving ---- */

static ssize_t receive_from(int fd, enum kind kind, void *buffer, size_t size, int flags, void *name, socklen_t *length) {
  ssize_t result = receive_bytes(fd, kind, buffer, size, flags);
  if (result < 0) return result;
  if (kind == KIND_XFRM) {
    put_netlink_name(name, length, 0);
  } else if (length != NULL) {
    *length = 0;
  }
  return result;
}

static ssize_t receive_message(int fd, enum kind kind, struct msghdr *message, int flags) {
  struct msghdr plain = {.msg_iov = message->msg_iov, .msg_iovlen = message->msg_iovlen};
  ssize_t result = receive(fd, kind, &plain, flags);
  if (result < 0) return result;
  message->msg_flags = plain.msg_flags;
  message->msg_controllen = 0;
  if (kind != KIND_XFRM || message->msg_name == NULL) message->msg_namelen = 0;
  if (kind == KIND_XFRM) put_netlink_name(message->msg_name, &message->msg_namelen, 0);
  return result;
}

EXPORT ssize_t recvfrom(
  int fd, void *restrict buffer, size_t size, int flags, struct sockaddr *restrict name, socklen_t *restrict length) {
  NEXT(ssize_t, recvfrom, int, void *, size_t, int, struct sockaddr *, socklen_t *);
  enum kind kind = kind_of(fd, NULL);
  if (kind == KIND_OTHER) return next(fd, buffer, size, flags, name, length);
  return receive_from(fd, kind, buffer, size, flags, name, length);
}

EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags) {
  NEXT(ssize_t, recv, int, void *, size_t, int);
  enum kind kind = kind_of(fd, NULL);
  return kind == KIND_OTHER ? next(fd, buffer, size, flags) : receive_bytes(fd, kind, buffer, size, flags);
}

EXPORT ssize_t read(int fd, void *buffer, size_t size) {
  NEXT(ssize_t, read, int, void *, size_t);
  enum kind kind = kind_of(fd, NULL);
  return kind == KIND_OTHER ? next(fd, buffer, size) : receive_bytes(fd, kind, buffer, size, 0);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  NEXT(ssize_t, recvmsg, int, struct msghdr *, int);
  enum kind kind = kind_of(fd, NULL);
  return kind == KIND_OTHER ? next(fd, message, flags) : receive_message(fd, kind, message, flags);
}

EXPORT ssize_t readv(int fd, const struct iovec *vectors, int count) {
  NEXT(ssize_t, readv, int, const struct iovec *, int);
  enum kind kind = kind_of(fd, NULL);
  if (kind == KIND_OTHER) return next(fd, vectors, count);
  struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)vectors, .msg_iovlen = (size_t)count};
  return receive(fd, kind, &message, 0);
}

/* The first may wait (unless `flags` says not); the rest are taken if they are there. No timeout: the C library's own
 * is only checked between datagrams. */
EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout) {
  NEXT(int, recvmmsg, int, struct mmsghdr *, unsigned int, int, struct timespec *);
  enum kind kind = kind_of(fd, NULL);
  if (kind == KIND_OTHER) return next(fd, messages, count, flags, timeout);
  for (unsigned int got = 0; got < count; got++) {
    int wait = (flags & ~MSG_WAITFORONE) | (got > 0 ? MSG_DONTWAIT : 0);
    ssize_t size = receive_message(fd, kind, &messages[got].msg_hdr, wait);
    if (size < 0) return got == 0 ? -1 : (int)got;
    messages[got].msg_len = (unsigned int)size;
  }
  return (int)count;
}

EXPORT int poll(struct pollfd *sockets, nfds_t count, int timeout) {
  NEXT(int, poll, struct pollfd *, nfds_t, int);
  if (count == 1 && timeout == 1 && (sockets->events & POLLIN) != 0 && kind_of(sockets->fd, NULL) == KIND_PFKEY) {
    timeout = PFKEY_ANSWER_MILLISECONDS;
  }
  return next(sockets, count, timeout);
}

/* ---- What _FORTIFY_SOURCE makes of the above ---- */

extern void __chk_fail(void) __attribute__((noreturn));

EXPORT ssize_t __recvfrom_chk(
  int fd, void *restrict buffer, size_t size, size_t room, int flags, struct sockaddr *restrict name,
  socklen_t *restrict length);
ssize_t __recvfrom_chk(
  int fd, void *restrict buffer, size_t size, size_t room, int flags, struct sockaddr *restrict name,
  socklen_t *restrict length) {
  if (size > room) __chk_fail();
  return recvfrom(fd, buffer, size, flags, name, length);
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags);
ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags) {
  if (size > room) __chk_fail();
  return recv(fd, buffer, size, flags);
}

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return read(fd, buffer, size);
}

EXPORT int __poll_chk(struct pollfd *sockets, nfds_t count, int timeout, size_t room);
int __poll_chk(struct pollfd *sockets, nfds_t count, int timeout, size_t room) {
  if (room / sizeof *sockets < count) __chk_fail();
  return poll(sockets, count, timeout);
}
