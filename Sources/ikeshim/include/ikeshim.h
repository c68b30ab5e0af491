/* What libikeshim.so and the gateway say to each other beside plain PF_KEY and NETLINK_XFRM messages. The gateway's
 * side is KeyManagement/XFRM/XFRMHello.swift. */
#ifndef IKESHIM_H
#define IKESHIM_H
#include <linux/netlink.h>
#include <stdint.h>

/* An nlmsghdr of type NLMSG_NOOP with this payload tells the gateway what bind() and setsockopt() told the "kernel".
 * It has no answer. Sent after each such call; bits that are not mentioned stay as they were. */
struct ikeshim_hello {
  struct nlmsghdr header;
  uint32_t port;           /* the socket's nl_pid: what getsockname() says, and what answers are addressed to */
  uint32_t join;           /* multicast groups, bit (group - 1) */
  uint32_t leave;
  uint32_t options;        /* IKESHIM_OPTION_…, the new values */
  uint32_t options_stated; /* which of them this message states */
};

#define IKESHIM_OPTION_EXT_ACK (1u << 0)
#define IKESHIM_OPTION_CAP_ACK (1u << 1)

/* Gateway to shim: an nlmsghdr of type NLMSG_OVERRUN and nothing else says that multicasts were dropped because this
 * socket was not read. The shim turns it into ENOBUFS, as the kernel reports it. */
/* What is sent to GW_IKE_SOCKET (AF_UNIX/SOCK_SEQPACKET), with the descriptor (SCM_RIGHTS), for each UDP socket that asks
 * for the kernel's IPsec bypass or its decapsulation: one message on a connection, and one answer. The gateway's side is
 * KeyManagement/Server/IKESocketServer.swift. */
struct ikeshim_socket {
  uint32_t flags; /* IKESHIM_SOCKET_…; those stated before stay */
};

/* ESP in UDP comes to its port (UDP_ENCAP). */
#define IKESHIM_SOCKET_TAKES_ESP (1u << 0)

struct ikeshim_answer {
  int32_t error; /* 0, or an errno */
};
#endif
