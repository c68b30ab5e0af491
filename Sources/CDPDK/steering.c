#include "cdpdk.h"

const char *cdpdk_esp_pattern(unsigned number) {
  static const char *const patterns[CDPDK_ESP_PATTERNS] = {"ipv4/esp", "ipv6/esp", "ipv4/udp/esp", "ipv6/udp/esp"};
  return number < CDPDK_ESP_PATTERNS ? patterns[number] : NULL;
}

int cdpdk_spread_esp(uint16_t port, unsigned pattern, const uint16_t *queues, uint32_t count) {
  int is_ipv6 = (pattern & 1) != 0, has_udp = (pattern & 2) != 0;
  struct rte_flow_item items[5] = {{.type = RTE_FLOW_ITEM_TYPE_ETH}};
  unsigned n = 1;
  items[n++].type = is_ipv6 ? RTE_FLOW_ITEM_TYPE_IPV6 : RTE_FLOW_ITEM_TYPE_IPV4;
  if (has_udp) items[n++].type = RTE_FLOW_ITEM_TYPE_UDP;
  items[n++].type = RTE_FLOW_ITEM_TYPE_ESP;
  items[n].type = RTE_FLOW_ITEM_TYPE_END;
  struct rte_flow_action_rss rss = {.func = RTE_ETH_HASH_FUNCTION_DEFAULT, .types = RTE_ETH_RSS_ESP};
  const struct rte_flow_action actions[] = {{RTE_FLOW_ACTION_TYPE_RSS, &rss}, {RTE_FLOW_ACTION_TYPE_END, NULL}};
  const struct rte_flow_attr attributes = {.ingress = 1};
  struct rte_flow_error error;
  /* Some drivers (ice, iavf) take rules for all queues alone, others (mlx5) want them listed. */
  if (rte_flow_create(port, &attributes, items, actions, &error) != NULL) return 0;
  rss.queue = queues;
  rss.queue_num = count;
  return rte_flow_create(port, &attributes, items, actions, &error) != NULL ? 0 : -rte_errno;
}
