#define _GNU_SOURCE
#include "cdpdk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int cdpdk_new_network_namespace(void) { return unshare(CLONE_NEWNET) == 0 ? 0 : -errno; }

int cdpdk_tap_open(char name[16]) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  struct ifreq request = {0};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  memcpy(name, request.ifr_name, IFNAMSIZ);
  return fd;
}

int cdpdk_tap_set_carrier(int descriptor, int up) { return ioctl(descriptor, TUNSETCARRIER, &up) < 0 ? -errno : 0; }

static int interface_ioctl(const char *name, unsigned long code, struct ifreq *request) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  strncpy(request->ifr_name, name, IFNAMSIZ - 1);
  int result = ioctl(fd, code, request) < 0 ? -errno : 0;
  close(fd);
  return result;
}

int cdpdk_interface_set_mac(const char *name, const uint8_t mac[6]) {
  struct ifreq request = {0};
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  memcpy(request.ifr_hwaddr.sa_data, mac, 6);
  return interface_ioctl(name, SIOCSIFHWADDR, &request);
}

int cdpdk_interface_get_mac(const char *name, uint8_t mac[6]) {
  struct ifreq request = {0};
  int result = interface_ioctl(name, SIOCGIFHWADDR, &request);
  if (result == 0) memcpy(mac, request.ifr_hwaddr.sa_data, 6);
  return result;
}

int cdpdk_interface_set_mtu(const char *name, int mtu) {
  struct ifreq request = {0};
  request.ifr_mtu = mtu;
  return interface_ioctl(name, SIOCSIFMTU, &request);
}

int cdpdk_interface_get_mtu(const char *name, int *mtu) {
  struct ifreq request = {0};
  int result = interface_ioctl(name, SIOCGIFMTU, &request);
  if (result == 0) *mtu = request.ifr_mtu;
  return result;
}

int cdpdk_interface_set_up(const char *name, int up) {
  struct ifreq request = {0};
  int result = interface_ioctl(name, SIOCGIFFLAGS, &request);
  if (result < 0) return result;
  request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
  return interface_ioctl(name, SIOCSIFFLAGS, &request);
}

int cdpdk_interface_is_up(const char *name, int *up) {
  struct ifreq request = {0};
  int result = interface_ioctl(name, SIOCGIFFLAGS, &request);
  if (result == 0) *up = (request.ifr_flags & IFF_UP) != 0;
  return result;
}
