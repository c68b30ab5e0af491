/* Memory that workers and the control thread share, laid out for the cache. No logic.
 * Who may touch a field stands beside it:
 *   immutable  written by the control thread before publication, then by nobody
 *   control    written by the control thread, read by any worker under RCU, with atomics
 *   worker     written by any worker, with atomics
 * Every object is 64-byte aligned (the allocator sees to it; over-aligned records would not import). */
#ifndef CLAYOUT_H
#define CLAYOUT_H
#include <stddef.h>
#include <stdint.h>
#include <ccrypto.h>

#define GW_CACHE_LINE 64

/* What a packet is looked up by. Host byte order; an IPv4 address in the low word, the rest zero. */
typedef struct gw_flow_key {
  uint64_t source_high, source_low, destination_high, destination_low;
  uint16_t source_port, destination_port; /* ICMP: type, code */
  uint8_t ip_protocol;
  uint8_t family;                         /* 2 or 10 */
  uint8_t opaque_ports;                   /* enum gw_flow_flag; not 0: a fragment or a header that hides them */
  uint8_t direction;                      /* for the SPD: enum gw_direction; in the flow cache (port : 6, origin : 2) */
} gw_flow_key;
_Static_assert(sizeof(gw_flow_key) == 40, "flow key");

enum gw_direction { GW_IN = 0, GW_OUT = 1 };

enum gw_flow_flag { GW_FLOW_HIDDEN_PORTS = 1, GW_FLOW_FRAGMENT = 2 };

enum gw_sa_flag {
  GW_SA_TUNNEL = 1 << 0,
  GW_SA_ESN = 1 << 1,
  GW_SA_UDP_ENCAP = 1 << 2,
  GW_SA_OUTER_V6 = 1 << 3,
  GW_SA_INBOUND = 1 << 4,
  GW_SA_LIMITED = 1 << 5,       /* has byte or packet limits: workers keep used_bytes and used_packets */
  GW_SA_DF_SET = 1 << 6,        /* outer DF: set, or copied, or (neither) clear */
  GW_SA_DF_COPY = 1 << 7,
  GW_SA_NO_ECN = 1 << 8,
  GW_SA_DSCP_SET = 1 << 9,      /* outer DSCP as in the template, not copied */
  GW_SA_TFC = 1 << 11,
  GW_SA_NO_REPLAY = 1 << 12,
  GW_SA_FAST_PATH = 1 << 13,    /* ESP by an AEAD with 8 bytes of IV and 16 of ICV, 4 or 8 aligned, not in UDP */
};

/* How a packet's nonce and AAD are made, and what an engine does with them. */
enum gw_sa_crypto {
  GW_CRYPTO_CBC = 0,            /* random IV; also null encryption, with iv_length 0 */
  GW_CRYPTO_AEAD = 1,           /* GCM, ChaCha20-Poly1305: salt(4) | IV(8), IV = sequence number */
  GW_CRYPTO_CCM = 2,            /* salt(3) | IV(8) */
  GW_CRYPTO_CTR = 3,            /* nonce(4) | IV(8) | 1(4) */
  GW_CRYPTO_GMAC = 4,           /* as AEAD, nothing encrypted */
};

/* Written by any worker (atomics); 0 at first. */
enum gw_sa_status {
  GW_SA_STOPPED = 1 << 0,       /* carries nothing more: hard limit, sequence exhausted, or deleted */
  GW_SA_SOFT_REPORTED = 1 << 1,
  GW_SA_HARD_REPORTED = 1 << 2,
  GW_SA_MAPPING_REPORTED = 1 << 3,
  GW_SA_UNKEYED = 1 << 4,       /* control: `session` is not to be used, see KeySchedules.swift */
  GW_SA_KEYS_ASKED = 1 << 5,
  GW_SA_HELD = 1 << 6,          /* outbound: it has come to `sequence_limit`, which is not the end; control takes it away */
  GW_SA_UNUSABLE = GW_SA_STOPPED | GW_SA_UNKEYED | GW_SA_HELD,
};

typedef struct gw_sa {
  /* line 0: immutable, all that a packet of the usual kind needs */
  uint32_t spi;                 /* network byte order */
  uint32_t flags;               /* enum gw_sa_flag */
  uint32_t serial;              /* of this SA, never used again; not 0 */
  uint32_t slot;                /* index into the workers' counters */
  void *session;                /* CryptoSession.base; it and the next two change while GW_SA_UNKEYED is set */
  crypto_burst burst;
  uint32_t session_stride;
  uint32_t salt;                /* as in memory: network byte order; CCM: 3 bytes */
  uint8_t sa_protocol;          /* 50, 51, 108, 4 */
  uint8_t crypto;               /* enum gw_sa_crypto */
  uint8_t iv_length;
  uint8_t icv_length;
  uint8_t alignment;            /* of payload, padding, pad length and next header together; a power of two */
  uint8_t outer_length;         /* bytes of `outer` put before ESP in tunnel mode: IP and UDP headers */
  uint16_t overhead;            /* the most that a packet can grow by, for the MTU */
  uint32_t replay_window;       /* in packets; 0: none */
  uint32_t replay_mask;         /* words in `replay` less one */
  uint64_t *replay;             /* worker: ring of (block number : 32, bits : 32) */
  /* line 1: immutable */
  uint8_t outer[48];            /* prebuilt IPv4 or IPv6 header and UDP header; length, id and checksum open */
  uint32_t outer_sum;           /* one's complement sum of the IPv4 header with those fields zero, not folded */
  uint32_t tfc_length;
  struct gw_sa *next;           /* control: bundle: applied after this one (out), expected before this one (in) */
  /* line 2: immutable; who it is */
  uint64_t source_high, source_low;           /* host byte order, IPv4 in the low word */
  uint64_t destination_high, destination_low;
  uint32_t request_id;
  uint32_t interface_id;
  struct gw_policy *selector;   /* inner traffic it may carry, as a policy of its own; NULL: any */
  uint64_t soft_bytes, hard_bytes;
  /* line 3: worker */
  uint64_t sequence;            /* outbound: the last number given out */
  union {
    uint64_t replay_highest;    /* inbound: the highest that authenticated */
    uint64_t careful_from;      /* outbound, control: from here on numbers are taken with care for sequence_limit */
  };
  uint64_t adjacency;           /* outbound: (FIB generation : 32, adjacency : 32) of the outer destination */
  uint64_t used_bytes, used_packets;          /* only with GW_SA_LIMITED */
  union {
    uint64_t peer;              /* inbound UDP encapsulation: (address low : 32, port : 16) last seen elsewhere */
    uint64_t sequence_limit;    /* outbound, control: the first number that may not be given out */
  };
  uint32_t status;              /* enum gw_sa_status */
  uint32_t path_mtu;            /* control: of the outer path; 0: the port's */
  uint64_t reserved0;
  /* line 4: immutable */
  uint64_t soft_packets, hard_packets;
  uint64_t control;             /* control: the database's own handle */
  uint64_t identities;          /* hash of the identities, the local one first; 0: none */
  uint64_t reserved1[4];
} gw_sa;
_Static_assert(offsetof(gw_sa, outer) == 64, "line 1");
_Static_assert(offsetof(gw_sa, source_high) == 128, "line 2");
_Static_assert(offsetof(gw_sa, sequence) == 192, "line 3");
_Static_assert(offsetof(gw_sa, soft_packets) == 256, "line 4");
_Static_assert(sizeof(gw_sa) == 320, "five lines");
_Static_assert(GW_SA_DSCP_SET == GW_SA_NO_ECN * 2, "OuterHeader.copiedClass");
/* What AtomicFields.swift reaches by offset. */
_Static_assert(offsetof(gw_sa, next) == 120, "AtomicFields");
_Static_assert(offsetof(gw_sa, replay_highest) == 200, "AtomicFields");
_Static_assert(offsetof(gw_sa, careful_from) == 200, "AtomicFields");
_Static_assert(offsetof(gw_sa, adjacency) == 208, "AtomicFields");
_Static_assert(offsetof(gw_sa, used_bytes) == 216, "AtomicFields");
_Static_assert(offsetof(gw_sa, used_packets) == 224, "AtomicFields");
_Static_assert(offsetof(gw_sa, peer) == 232, "AtomicFields");
_Static_assert(offsetof(gw_sa, sequence_limit) == 232, "AtomicFields");
_Static_assert(offsetof(gw_sa, status) == 240, "AtomicFields");
_Static_assert(offsetof(gw_sa, path_mtu) == 244, "AtomicFields");

enum gw_policy_type { GW_USE = 1, GW_ACQUIRE = 2, GW_REQUIRE = 3, GW_BYPASS = 4, GW_DENY = 5, GW_DONTACQ = 6 };

enum gw_template_mode { GW_MODE_TRANSPORT = 0, GW_MODE_TUNNEL = 1, GW_MODE_ANY = 2 };

/* One layer of protection that a policy asks for. Immutable. */
typedef struct gw_template {
  uint64_t peer_high, peer_low;               /* 0: any; in: the SA's source, out: its destination */
  uint64_t local_high, local_low;             /* 0: any */
  uint32_t request_id;                        /* 0: any */
  uint8_t sa_protocol;
  uint8_t mode;                               /* enum gw_template_mode */
  uint8_t is_optional;
  uint8_t reserved;
} gw_template;
_Static_assert(sizeof(gw_template) == 40, "template");

typedef struct gw_policy {
  /* line 0: immutable but for `sa` */
  struct gw_sa *sa;             /* control: outbound, the SA (the first of its bundle) to use now; NULL: none */
  uint32_t index;               /* not 0 */
  uint32_t slot;                /* index into the workers' counters */
  uint8_t type;                 /* enum gw_policy_type */
  uint8_t direction;            /* enum gw_direction */
  uint8_t ip_protocol;
  uint8_t any_protocol;
  uint8_t sa_protocol;          /* of the template; 0: no template */
  uint8_t mode;                 /* of the template: enum gw_template_mode */
  uint8_t template_count;
  uint8_t reserved0;
  uint16_t source_port_low, source_port_high, destination_port_low, destination_port_high;
  uint64_t rank;                /* lower wins: numeric priority, or less specific = higher */
  struct gw_policy *next;       /* control: the next by rank of those that differ in ranges of ports only, if at all */
  uint32_t acquire_pending;     /* worker: an ACQUIRE was asked for and not yet answered */
  uint8_t source_length, destination_length, family, reserved1;
  uint32_t source4, destination4; /* IPv4: the addresses of line 2 */
  /* line 1: immutable: what an inbound SA must have to satisfy it (OpenBSD: peer, protocol, identities) */
  uint64_t peer_high, peer_low;               /* 0: any */
  uint64_t local_high, local_low;             /* 0: any */
  uint64_t identities;          /* hash of the identities asked for; 0: none */
  uint32_t request_id;          /* of the template; 0: any */
  uint32_t interface_id;
  uint64_t control;             /* control: the database's own handle */
  struct gw_template *templates;              /* all, innermost first, if there are several or optional ones; else NULL */
  /* line 2: immutable */
  uint64_t source_high, source_low, destination_high, destination_low;
  uint64_t mark_value_mask;     /* (value : 32, mask : 32) */
  uint64_t reserved2[3];
} gw_policy;
_Static_assert(offsetof(gw_policy, peer_high) == 64, "line 1");
_Static_assert(offsetof(gw_policy, source_high) == 128, "line 2");
_Static_assert(sizeof(gw_policy) == 192, "three lines");
_Static_assert(offsetof(gw_policy, sa) == 0, "AtomicFields");
_Static_assert(offsetof(gw_policy, next) == 40, "AtomicFields");
_Static_assert(offsetof(gw_policy, acquire_pending) == 48, "AtomicFields");

/* What the selectors of a cell name exactly: see SPDNode.swift. */
enum gw_cell_flag { GW_CELL_PROTOCOL = 1, GW_CELL_SOURCE_PORT = 2, GW_CELL_DESTINATION_PORT = 4 };

/* The policies of one direction and family. */
typedef struct gw_spd_view {
  void *sources;                /* control: top of the order of source addresses: SPDNode */
  void *destinations;           /* control: top of the order of destination addresses: lengths of prefixes in use */
  void *cells;                  /* immutable: HashIndex root */
  uint64_t *priorities;         /* immutable; control writes the words: by source length, see SPDPriorities.swift */
  void *protected_sources;      /* control: the same order of the source addresses of policies that ask for protection */
  uint64_t reserved[3];
} gw_spd_view;
_Static_assert(sizeof(gw_spd_view) == 64, "one line");
_Static_assert(offsetof(gw_spd_view, protected_sources) == 32, "SPDReader");

/* One source prefix of a view. Control writes the first 104 bytes with atomics, see SPDNode.swift. */
typedef struct gw_spd_node {
  uint64_t link;                /* its length; the longest of those that cover it */
  uint64_t rank;                /* no policy in it ranks before this */
  uint64_t cells;               /* how many stand here, or gw_spd_fan */
  uint64_t cell[10];
  uint64_t address_high, address_low;         /* the control thread's, as what follows */
  uint32_t cell_count, prioritised;
} gw_spd_node;
_Static_assert(sizeof(gw_spd_node) == 128, "two lines");
_Static_assert(offsetof(gw_spd_node, cell) == 24, "SPDNode");
_Static_assert(offsetof(gw_spd_node, cell_count) == 120, "SPDNode");
_Static_assert(offsetof(gw_spd_node, prioritised) == 124, "SPDNode");

/* A source prefix with many cells, which stand in the table of cells: which destination lengths to ask it for. Behind it
 * for each length, by its bit, 32 bits: no cell of this length has a lower numeric priority. Control writes with
 * atomics. */
typedef struct gw_spd_fan {
  uint64_t plain[2];            /* lengths of cells that go by their prefixes alone */
  uint64_t pairs[6];            /* Bloom filter of the same */
  uint64_t low[8], high[8];     /* lengths of the cells that go by protocol and ports, too: by gw_cell_flag */
} gw_spd_fan;
_Static_assert(offsetof(gw_spd_fan, low) == 64, "SPDReader");
_Static_assert(sizeof(gw_spd_fan) == 192, "three lines");

/* One worker's counts of one SA or policy; written by that worker alone (relaxed stores), read by the control thread. */
typedef struct gw_counters {
  uint64_t packets, bytes;
  uint32_t last_used;           /* seconds of the gateway's clock; 0: never */
  uint32_t integrity_failures, replayed, drops;
} gw_counters;
_Static_assert(sizeof(gw_counters) == 32, "two to a line");
_Static_assert(offsetof(gw_counters, last_used) == 16, "AtomicFields");

/* One entry of a worker's flow cache: what was decided for this very key. Owned by that worker. */
typedef struct gw_flow_entry {
  gw_flow_key key;
  struct gw_policy *policy;     /* to protect: the outbound policy; other actions: the inbound one, for its counters */
  uint32_t generation;          /* of the tables it was decided on; another one: the entry is void */
  uint32_t adjacency;
  uint32_t sa_serial;           /* inbound: the SA that was last found to satisfy the policy */
  uint8_t action;               /* the caller's */
  uint8_t in_use;
  uint8_t reason;               /* the caller's: why it drops */
  uint8_t reserved;
} gw_flow_entry;
_Static_assert(offsetof(gw_flow_entry, policy) == 40, "flow entry");
_Static_assert(sizeof(gw_flow_entry) == 64, "one line");

/* RFC 4303 2.4: whether the last `count` (0 to 8) of the eight bytes of a little-endian word are 1, 2, 3 ... Tables, for
   shifts by what a packet says are several instructions each. */
static inline int gw_is_padding(uint64_t bytes, uint32_t count) {
  static const uint64_t last[9][2] = {
      {0, 0},
      {0xff00000000000000, 0x0100000000000000},
      {0xffff000000000000, 0x0201000000000000},
      {0xffffff0000000000, 0x0302010000000000},
      {0xffffffff00000000, 0x0403020100000000},
      {0xffffffffff000000, 0x0504030201000000},
      {0xffffffffffff0000, 0x0605040302010000},
      {0xffffffffffffff00, 0x0706050403020100},
      {0xffffffffffffffff, 0x0807060504030201},
  };
  return (bytes & last[count][0]) == last[count][1];
}
#endif
