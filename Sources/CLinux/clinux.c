#define _GNU_SOURCE
#include "clinux.h"

#include <string.h>
#include <unistd.h>

int clinux_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int clinux_peer(int socket, pid_t *process, uid_t *user) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
  *process = credentials.pid;
  *user = credentials.uid;
  return 0;
}

ssize_t clinux_receive_descriptor(int socket, void *buffer, size_t size, int *descriptor) {
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(4 * sizeof(int))];
  } control;
  struct iovec vector = {.iov_base = buffer, .iov_len = size};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  *descriptor = -1;
  ssize_t received = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received < 0) return received;
  int count = 0;
  for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t end = part->cmsg_len - CMSG_LEN(0);
    for (size_t offset = 0; offset + sizeof(int) <= end; offset += sizeof(int)) {
      int received_descriptor;
      memcpy(&received_descriptor, CMSG_DATA(part) + offset, sizeof received_descriptor);
      if (count++ == 0) {
        *descriptor = received_descriptor;
      } else {
        close(received_descriptor);
      }
    }
  }
  if (count > 1) {
    close(*descriptor);
    *descriptor = -1;
  }
  return received;
}
