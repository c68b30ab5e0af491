#include "cdpdk.h"

#include <rte_mbuf_pool_ops.h>

#include <string.h>

static int populate(struct rte_mempool *pool, uint16_t private_size, uint16_t data_room) {
  struct rte_pktmbuf_pool_private settings;
  memset(&settings, 0, sizeof settings);
  settings.mbuf_data_room_size = data_room;
  settings.mbuf_priv_size = private_size;
  int result = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
  if (result != 0) return result;
  rte_pktmbuf_pool_init(pool, &settings);
  result = rte_mempool_populate_default(pool);
  if (result < 0) return result;
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
  return 0;
}

struct rte_mempool *cdpdk_pool_create(
    const char *name, unsigned count, unsigned cache, uint16_t private_size, uint16_t data_room, int socket) {
  if (rte_eal_has_hugepages())
    return rte_pktmbuf_pool_create(name, count, cache, private_size, data_room, socket);
  unsigned size = sizeof(struct rte_mbuf) + private_size + data_room;
  struct rte_mempool *pool = rte_mempool_create_empty(
      name, count, size, cache, sizeof(struct rte_pktmbuf_pool_private), socket, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
  if (pool == NULL) return NULL;
  int result = populate(pool, private_size, data_room);
  if (result == 0) return pool;
  rte_mempool_free(pool);
  rte_errno = -result;
  return NULL;
}
