// Expiry of stale datagrams is still marked experimental in 22.11.
#define ALLOW_EXPERIMENTAL_API
#include "cdpdk.h"

#include <stdlib.h>

struct cdpdk_reassembly {
  struct rte_ip_frag_tbl *table;
  struct rte_ip_frag_death_row dead;
};

enum { ENTRIES_PER_BUCKET = 8 };

cdpdk_reassembly *cdpdk_reassembly_create(uint32_t max_flows, uint64_t timeout_cycles, int socket) {
  cdpdk_reassembly *r = calloc(1, sizeof *r);
  if (r == NULL) return NULL;
  uint32_t buckets = 1;
  while (buckets < max_flows) buckets *= 2;
  r->table = rte_ip_frag_table_create(buckets, ENTRIES_PER_BUCKET, max_flows, timeout_cycles, socket);
  if (r->table != NULL) return r;
  free(r);
  return NULL;
}

void cdpdk_reassembly_destroy(cdpdk_reassembly *r) {
  if (r == NULL) return;
  // Destroying the table would leak the fragments in it.
  while (cdpdk_reassembly_collect(r, UINT64_MAX) > 0) {
  }
  rte_ip_frag_table_destroy(r->table);
  free(r);
}

// One call adds at most all fragments of a datagram and the new one to the death row.
static void make_room(cdpdk_reassembly *r) {
  if (r->dead.cnt + 2 * RTE_LIBRTE_IP_FRAG_MAX_FRAG + 2 > RTE_DIM(r->dead.row)) rte_ip_frag_free_death_row(&r->dead, 0);
}

cdpdk_mbuf *cdpdk_reassemble_ipv4(cdpdk_reassembly *r, cdpdk_mbuf *m, uint64_t now, uint16_t l3_offset) {
  struct rte_mbuf *mbuf = (struct rte_mbuf *)m;
  struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv4_hdr *, l3_offset);
  make_room(r);
  mbuf->l2_len = l3_offset;
  mbuf->l3_len = (ip->version_ihl & 15) * 4;
  return (cdpdk_mbuf *)rte_ipv4_frag_reassemble_packet(r->table, &r->dead, mbuf, now, ip);
}

cdpdk_mbuf *cdpdk_reassemble_ipv6(
    cdpdk_reassembly *r, cdpdk_mbuf *m, uint64_t now, uint16_t l3_offset, uint16_t fragment_offset) {
  struct rte_mbuf *mbuf = (struct rte_mbuf *)m;
  struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv6_hdr *, l3_offset);
  struct rte_ipv6_fragment_ext *fragment = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv6_fragment_ext *, fragment_offset);
  make_room(r);
  mbuf->l2_len = l3_offset;
  mbuf->l3_len = sizeof(*ip) + sizeof(*fragment);
  return (cdpdk_mbuf *)rte_ipv6_frag_reassemble_packet(r->table, &r->dead, mbuf, now, ip, fragment);
}

uint32_t cdpdk_reassembly_refused(cdpdk_reassembly *r) {
  uint32_t count = r->dead.cnt;
  if (count > 0) rte_ip_frag_free_death_row(&r->dead, 0);
  return count;
}

uint32_t cdpdk_reassembly_collect(cdpdk_reassembly *r, uint64_t now) {
  make_room(r);
  rte_ip_frag_table_del_expired_entries(r->table, &r->dead, now);
  return cdpdk_reassembly_refused(r);
}
