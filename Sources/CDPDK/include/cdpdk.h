// What Swift cannot import from DPDK's headers by itself: a visible mbuf, function-like macros, 64-bit flags, rte_errno.
// Everything else (rte_eth_*, rte_ring_*, rte_rcu_qsbr_*, rte_mempool_*) is called under its own name.
#ifndef CDPDK_H
#define CDPDK_H
#include <rte_config.h> /* in place of pkg-config's "-include rte_config.h" */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_ip.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pause.h>
#include <rte_pcapng.h>
#include <rte_prefetch.h>
#include <rte_rcu_qsbr.h>
#include <rte_ring.h>
#include <rte_version.h>

#define CDPDK_INLINE static inline __attribute__((always_inline))

// MARK: mbuf

/// rte_mbuf with natural alignment, so that its fields are visible in Swift. Same size, same offsets.
typedef struct cdpdk_mbuf {
  void *buf_addr;
  uint64_t buf_iova;
  uint16_t data_off, refcnt, nb_segs, port;
  uint64_t ol_flags;
  uint32_t packet_type, pkt_len;
  uint16_t data_len, vlan_tci;
  uint32_t hash_lo, hash_hi; // hash_lo: the RSS hash
  uint16_t vlan_tci_outer, buf_len;
  void *pool;
  struct cdpdk_mbuf *next; // second cache line from here on
  uint64_t tx_offload;
  void *shinfo;
  uint16_t priv_size, timesync;
  uint32_t dynfield1[9];
} cdpdk_mbuf;

#define CDPDK_SAME(f, g) _Static_assert(offsetof(cdpdk_mbuf, f) == offsetof(struct rte_mbuf, g), #f)
CDPDK_SAME(buf_addr, buf_addr);
CDPDK_SAME(buf_iova, buf_iova);
CDPDK_SAME(data_off, data_off);
CDPDK_SAME(refcnt, refcnt);
CDPDK_SAME(nb_segs, nb_segs);
CDPDK_SAME(port, port);
CDPDK_SAME(ol_flags, ol_flags);
CDPDK_SAME(packet_type, packet_type);
CDPDK_SAME(pkt_len, pkt_len);
CDPDK_SAME(data_len, data_len);
CDPDK_SAME(vlan_tci, vlan_tci);
CDPDK_SAME(hash_lo, hash.rss);
CDPDK_SAME(hash_hi, hash.fdir.hi);
CDPDK_SAME(vlan_tci_outer, vlan_tci_outer);
CDPDK_SAME(buf_len, buf_len);
CDPDK_SAME(pool, pool);
CDPDK_SAME(next, next);
CDPDK_SAME(tx_offload, tx_offload);
CDPDK_SAME(shinfo, shinfo);
CDPDK_SAME(priv_size, priv_size);
CDPDK_SAME(timesync, timesync);
CDPDK_SAME(dynfield1, dynfield1);
_Static_assert(offsetof(cdpdk_mbuf, pkt_len) == 36 && offsetof(cdpdk_mbuf, data_len) == 40, "Mbuf.setLength");
_Static_assert(sizeof(cdpdk_mbuf) == sizeof(struct rte_mbuf), "size of rte_mbuf");
_Static_assert(sizeof(cdpdk_mbuf) == 2 * RTE_CACHE_LINE_MIN_SIZE, "rte_mbuf is two cache lines");

enum {
  CDPDK_MBUF_SIZE = sizeof(struct rte_mbuf),
  CDPDK_HEADROOM = RTE_PKTMBUF_HEADROOM,
  CDPDK_CACHE_LINE = RTE_CACHE_LINE_SIZE,
  CDPDK_MAX_LCORES = RTE_MAX_LCORE,
  CDPDK_MAX_PORTS = RTE_MAX_ETHPORTS,
};

/// The pool's private area behind the mbuf and before its buffer: the data path's metadata of the packet.
CDPDK_INLINE void *cdpdk_mbuf_priv(cdpdk_mbuf *m) { return (char *)m + sizeof(struct rte_mbuf); }
/// First byte of the packet.
CDPDK_INLINE void *cdpdk_mbuf_data(cdpdk_mbuf *m) { return (char *)m->buf_addr + m->data_off; }
CDPDK_INLINE uint16_t cdpdk_mbuf_headroom(cdpdk_mbuf *m) { return m->data_off; }
/// Of a single segment.
CDPDK_INLINE uint16_t cdpdk_mbuf_tailroom(cdpdk_mbuf *m) {
  return (uint16_t)(m->buf_len - m->data_off - m->data_len);
}

CDPDK_INLINE uint16_t cdpdk_rx_burst(uint16_t port, uint16_t queue, cdpdk_mbuf **m, uint16_t n) {
  return rte_eth_rx_burst(port, queue, (struct rte_mbuf **)m, n);
}
CDPDK_INLINE uint16_t cdpdk_tx_burst(uint16_t port, uint16_t queue, cdpdk_mbuf **m, uint16_t n) {
  return rte_eth_tx_burst(port, queue, (struct rte_mbuf **)m, n);
}
CDPDK_INLINE void cdpdk_free(cdpdk_mbuf *m) { rte_pktmbuf_free((struct rte_mbuf *)m); }
CDPDK_INLINE void cdpdk_free_bulk(cdpdk_mbuf **m, unsigned n) { rte_pktmbuf_free_bulk((struct rte_mbuf **)m, n); }
/// NULL when the pool is empty.
CDPDK_INLINE cdpdk_mbuf *cdpdk_alloc(struct rte_mempool *pool) { return (cdpdk_mbuf *)rte_pktmbuf_alloc(pool); }
/// 0, or -ENOENT and none allocated.
CDPDK_INLINE int cdpdk_alloc_bulk(struct rte_mempool *pool, cdpdk_mbuf **m, unsigned n) {
  return rte_pktmbuf_alloc_bulk(pool, (struct rte_mbuf **)m, n);
}
/// Moves all data into the first segment; -1 if its tailroom is too small.
CDPDK_INLINE int cdpdk_linearize(cdpdk_mbuf *m) { return rte_pktmbuf_linearize((struct rte_mbuf *)m); }
/// A deep copy of at most `length` bytes from `offset`, with metadata; NULL when the pool is empty.
CDPDK_INLINE cdpdk_mbuf *cdpdk_copy(const cdpdk_mbuf *m, struct rte_mempool *pool, uint32_t offset, uint32_t length) {
  return (cdpdk_mbuf *)rte_pktmbuf_copy((const struct rte_mbuf *)m, pool, offset, length);
}
/// Appends `tail`'s segments to `head`; -EOVERFLOW if there are too many.
CDPDK_INLINE int cdpdk_chain(cdpdk_mbuf *head, cdpdk_mbuf *tail) {
  return rte_pktmbuf_chain((struct rte_mbuf *)head, (struct rte_mbuf *)tail);
}
/// Fields back to those of a fresh mbuf: empty, default headroom.
CDPDK_INLINE void cdpdk_reset(cdpdk_mbuf *m) { rte_pktmbuf_reset((struct rte_mbuf *)m); }
CDPDK_INLINE void cdpdk_prefetch(const void *p) { rte_prefetch0(p); }
/// For a line that is about to be written, and that another core may hold.
CDPDK_INLINE void cdpdk_prefetch_write(const void *p) {
#ifdef __x86_64__
  __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
  __builtin_prefetch(p, 1);
#endif
}
CDPDK_INLINE void cdpdk_prefetch_data(cdpdk_mbuf *m) { rte_prefetch0((char *)m->buf_addr + RTE_PKTMBUF_HEADROOM); }
CDPDK_INLINE uint64_t cdpdk_cycles(void) { return rte_rdtsc(); }
CDPDK_INLINE int cdpdk_errno(void) { return rte_errno; }

// MARK: pools

/// As rte_pktmbuf_pool_create. Without hugepages the objects lie close together, across pages: DPDK would otherwise keep
/// each within its page, and the AF_XDP driver registers only as much memory as a close layout takes. Such memory is
/// only for virtual devices.
struct rte_mempool *cdpdk_pool_create(
    const char *name, unsigned count, unsigned cache, uint16_t private_size, uint16_t data_room, int socket);

// MARK: rings of mbufs

CDPDK_INLINE unsigned cdpdk_ring_enqueue(struct rte_ring *r, cdpdk_mbuf **m, unsigned n) {
  return rte_ring_enqueue_burst(r, (void *const *)m, n, NULL);
}
CDPDK_INLINE unsigned cdpdk_ring_dequeue(struct rte_ring *r, cdpdk_mbuf **m, unsigned n) {
  return rte_ring_dequeue_burst(r, (void **)m, n, NULL);
}
CDPDK_INLINE uint32_t cdpdk_ring_sp(void) { return RING_F_SP_ENQ; }
CDPDK_INLINE uint32_t cdpdk_ring_sc(void) { return RING_F_SC_DEQ; }

// MARK: flags

CDPDK_INLINE uint64_t cdpdk_rss_ip(void) { return RTE_ETH_RSS_IP; }
CDPDK_INLINE uint64_t cdpdk_rss_l4(void) { return RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP; }
/// By SPI: spreads the SAs of one pair of gateways.
CDPDK_INLINE uint64_t cdpdk_rss_esp(void) { return RTE_ETH_RSS_ESP; }
CDPDK_INLINE uint64_t cdpdk_rx_offload_ipv4_checksum(void) { return RTE_ETH_RX_OFFLOAD_IPV4_CKSUM; }
CDPDK_INLINE uint64_t cdpdk_rx_offload_rss_hash(void) { return RTE_ETH_RX_OFFLOAD_RSS_HASH; }
CDPDK_INLINE uint64_t cdpdk_rx_offload_scatter(void) { return RTE_ETH_RX_OFFLOAD_SCATTER; }
CDPDK_INLINE uint64_t cdpdk_tx_offload_ipv4_checksum(void) { return RTE_ETH_TX_OFFLOAD_IPV4_CKSUM; }
CDPDK_INLINE uint64_t cdpdk_tx_offload_multi_segs(void) { return RTE_ETH_TX_OFFLOAD_MULTI_SEGS; }
CDPDK_INLINE uint64_t cdpdk_tx_offload_fast_free(void) { return RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE; }
CDPDK_INLINE uint64_t cdpdk_rx_ip_checksum_mask(void) { return RTE_MBUF_F_RX_IP_CKSUM_MASK; }
CDPDK_INLINE uint64_t cdpdk_rx_ip_checksum_bad(void) { return RTE_MBUF_F_RX_IP_CKSUM_BAD; }
CDPDK_INLINE uint64_t cdpdk_rx_ip_checksum_good(void) { return RTE_MBUF_F_RX_IP_CKSUM_GOOD; }

/// What an rte_flow rule of `cdpdk_spread_esp` looks for, by number.
enum { CDPDK_ESP_PATTERNS = 4 };
const char *cdpdk_esp_pattern(unsigned number);
/// Has the device spread ESP of one pattern over `queues` by its SPI. Of a port that runs. 0, or -errno.
int cdpdk_spread_esp(uint16_t port, unsigned pattern, const uint16_t *queues, uint32_t count);

// MARK: log, affinity, output capture

/// Called with each message of EAL and the drivers, on the thread that logs. Level: 1 emergency … 7 info, 8 debug.
typedef void (*cdpdk_log_handler)(uint32_t level, const char *text, size_t length);
/// Replaces stderr and syslog as the destination of DPDK's log; 0 or -errno.
int cdpdk_log_capture(cdpdk_log_handler handler);

/// Standard output and error of the process, diverted into memory while EAL initialises.
typedef struct cdpdk_output {
  int memory, out, error;
} cdpdk_output;
int cdpdk_output_divert(cdpdk_output *saved);
/// Restores both; what was written meanwhile, to be freed by the caller, or NULL.
char *cdpdk_output_restore(cdpdk_output *saved);

/// Affinity of the calling thread as a bit mask of `words` 64-bit words; 0 or an errno.
int cdpdk_affinity_get(uint64_t *mask, int words);
int cdpdk_affinity_set(const uint64_t *mask, int words);

// MARK: TAP and interfaces

/// Moves the calling thread, and what it starts from now on, into a new network namespace; 0 or -errno.
int cdpdk_new_network_namespace(void);

/// A non-blocking, non-persistent TAP; the descriptor, or -errno. `name` gets the kernel's name if it held a pattern.
int cdpdk_tap_open(char name[16]);
int cdpdk_tap_set_carrier(int descriptor, int up);
/// Each: 0 or -errno.
int cdpdk_interface_set_mac(const char *name, const uint8_t mac[6]);
int cdpdk_interface_get_mac(const char *name, uint8_t mac[6]);
int cdpdk_interface_set_mtu(const char *name, int mtu);
int cdpdk_interface_get_mtu(const char *name, int *mtu);
int cdpdk_interface_set_up(const char *name, int up);
int cdpdk_interface_is_up(const char *name, int *up);
#endif
