#include "gcm_vaes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

/* GHASH is computed as POLYVAL on byte-reversed blocks with the hash key times x (RFC 8452 appendix A): products need
 * no shift, and reduce from below by two multiplications. Sums of products are reduced once for up to ten blocks. */

#define TARGET __attribute__((target("aes,pclmul,avx2,vaes,vpclmulqdq")))
#define INLINE static inline __attribute__((always_inline)) TARGET

int gcm_vaes_supported(void) {
  return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("avx2")
      && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("vpclmulqdq");
}

INLINE __m128i load(const void *at) { return _mm_loadu_si128(at); }
INLINE __m256i load_pair(const void *at) { return _mm256_loadu_si256(at); }
INLINE __m128i reversed(__m128i x) {
  return _mm_shuffle_epi8(x, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
INLINE __m256i reversed_pair(__m256i x) {
  return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(
      _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

/* --- GHASH --- */

/* Unreduced products, those of the even blocks beside those of the odd. */
typedef struct product { __m256i low, middle, high; } product;

INLINE product multiplied(__m256i x, __m256i h) {
  return (product){
      .low = _mm256_clmulepi64_epi128(x, h, 0x00),
      .middle = _mm256_xor_si256(_mm256_clmulepi64_epi128(x, h, 0x01), _mm256_clmulepi64_epi128(x, h, 0x10)),
      .high = _mm256_clmulepi64_epi128(x, h, 0x11)};
}

INLINE void add_multiplied(product *sum, __m256i x, __m256i h) {
  product p = multiplied(x, h);
  sum->low = _mm256_xor_si256(sum->low, p.low);
  sum->middle = _mm256_xor_si256(sum->middle, p.middle);
  sum->high = _mm256_xor_si256(sum->high, p.high);
}

INLINE __m128i reduced_parts(__m128i low, __m128i middle, __m128i high) {
  const __m128i polynomial = _mm_set_epi64x((long long)0xc200000000000000u, 1);
  low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
  high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
  low = _mm_xor_si128(_mm_clmulepi64_si128(low, polynomial, 0x10), _mm_shuffle_epi32(low, 0x4e));
  low = _mm_xor_si128(_mm_clmulepi64_si128(low, polynomial, 0x10), _mm_shuffle_epi32(low, 0x4e));
  return _mm_xor_si128(low, high);
}

INLINE __m128i halves_added(__m256i x) {
  return _mm_xor_si128(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

INLINE __m128i reduced(product sum) {
  return reduced_parts(halves_added(sum.low), halves_added(sum.middle), halves_added(sum.high));
}

INLINE __m128i dot(__m128i a, __m128i b) {
  return reduced_parts(
      _mm_clmulepi64_si128(a, b, 0x00),
      _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10)),
      _mm_clmulepi64_si128(a, b, 0x11));
}

/* H^n. */
INLINE __m128i power(const gcm_vaes_key *key, unsigned n) { return load(key->powers + (gcm_vaes_powers - n) * 16); }
/* H^n, H^(n-1). */
INLINE __m256i powers(const gcm_vaes_key *key, unsigned n) {
  return load_pair(key->powers + (gcm_vaes_powers - n) * 16);
}

/* Eight reversed blocks. */
INLINE __m128i hashed_chunk(const gcm_vaes_key *key, const __m256i *chunk, __m128i hash) {
  product sum = multiplied(_mm256_xor_si256(chunk[0], _mm256_zextsi128_si256(hash)), powers(key, 8));
  add_multiplied(&sum, chunk[1], powers(key, 6));
  add_multiplied(&sum, chunk[2], powers(key, 4));
  add_multiplied(&sum, chunk[3], powers(key, 2));
  return reduced(sum);
}

/* --- AES --- */

INLINE __m128i round_key(const gcm_vaes_key *key, unsigned round) { return load(key->round_keys + round * 16); }

INLINE __m128i encrypted(const gcm_vaes_key *key, __m128i block) {
  block = _mm_xor_si128(block, round_key(key, 0));
  for (unsigned round = 1; round < key->rounds; round++) block = _mm_aesenc_si128(block, round_key(key, round));
  return _mm_aesenclast_si128(block, round_key(key, key->rounds));
}

INLINE void whiten(const gcm_vaes_key *key, __m256i *pairs, const int n) {
  __m256i k = _mm256_broadcastsi128_si256(round_key(key, 0));
  for (int i = 0; i < n; i++) pairs[i] = _mm256_xor_si256(pairs[i], k);
}

INLINE void do_round(const gcm_vaes_key *key, __m256i *pairs, const int n, unsigned round) {
  __m256i k = _mm256_broadcastsi128_si256(round_key(key, round));
  for (int i = 0; i < n; i++) pairs[i] = _mm256_aesenc_epi128(pairs[i], k);
}

/* From round 10 on. */
INLINE void do_last_rounds(const gcm_vaes_key *key, __m256i *pairs, const int n) {
  for (unsigned round = 10; round < key->rounds; round++) do_round(key, pairs, n, round);
  __m256i k = _mm256_broadcastsi128_si256(round_key(key, key->rounds));
  for (int i = 0; i < n; i++) pairs[i] = _mm256_aesenclast_epi128(pairs[i], k);
}

INLINE void encrypt_pairs(const gcm_vaes_key *key, __m256i *pairs, const int n) {
  whiten(key, pairs, n);
#pragma clang loop unroll(full)
  for (unsigned round = 1; round < 10; round++) do_round(key, pairs, n, round);
  do_last_rounds(key, pairs, n);
}

/* encrypt_pairs of four and hashed_chunk, their instructions mixed: each hides the other's latency. */
INLINE void encrypt_pairs_and_hash(const gcm_vaes_key *key, __m256i *pairs, const __m256i *chunk, __m128i *hash) {
  whiten(key, pairs, 4);
  do_round(key, pairs, 4, 1);
  product sum = multiplied(_mm256_xor_si256(chunk[0], _mm256_zextsi128_si256(*hash)), powers(key, 8));
  do_round(key, pairs, 4, 2);
  do_round(key, pairs, 4, 3);
  add_multiplied(&sum, chunk[1], powers(key, 6));
  do_round(key, pairs, 4, 4);
  do_round(key, pairs, 4, 5);
  add_multiplied(&sum, chunk[2], powers(key, 4));
  do_round(key, pairs, 4, 6);
  do_round(key, pairs, 4, 7);
  add_multiplied(&sum, chunk[3], powers(key, 2));
  do_round(key, pairs, 4, 8);
  *hash = reduced(sum);
  do_round(key, pairs, 4, 9);
  do_last_rounds(key, pairs, 4);
}

/* `counter` has the number in its lowest lane, as reversal leaves it. */
INLINE void counter_blocks(__m256i counter, __m256i *pairs, const int n) {
  for (int i = 0; i < n; i++)
    pairs[i] = reversed_pair(_mm256_add_epi32(counter, _mm256_set_epi32(0, 0, 0, 2 * i, 0, 0, 0, 2 * i)));
}

/* --- Parts of blocks --- */

static const uint8_t kept_bytes[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
static const uint8_t shifted_bytes[32] = {
    0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,
    128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128};

/* The first n bytes, zero behind. */
INLINE __m128i first_bytes(__m128i x, size_t n) { return _mm_and_si128(x, load(kept_bytes + 16 - n)); }

/* n bytes at `at`, 1 to 15, zero behind. `has_before`: at least 16-n readable bytes of the same text stand before. */
INLINE __m128i load_part(const uint8_t *at, size_t n, int has_before) {
  if (has_before) return _mm_shuffle_epi8(load(at + n - 16), load(shifted_bytes + 16 - n));
  uint8_t bytes[16] = {0};
  for (size_t i = 0; i < n; i++) bytes[i] = at[i];
  return load(bytes);
}

INLINE void store_part(uint8_t *at, __m128i x, size_t n) {
  if (n & 8) {
    _mm_storeu_si64(at, x);
    at += 8;
    x = _mm_srli_si128(x, 8);
  }
  if (n & 4) {
    _mm_storeu_si32(at, x);
    at += 4;
    x = _mm_srli_si128(x, 4);
  }
  if (n & 2) {
    _mm_storeu_si16(at, x);
    at += 2;
    x = _mm_srli_si128(x, 2);
  }
  if (n & 1) *at = (uint8_t)_mm_cvtsi128_si32(x);
}

/* --- GCM --- */

/* Runs 128 bytes. Sealing, what is hashed beside them is the chunk before, in `chunk` (none if `is_first`), which then
 * becomes this one; opening, it is this one. */
INLINE void run_chunk(const gcm_vaes_key *key, uint8_t *text, __m256i *counter, __m256i *chunk, __m128i *hash,
                      const int is_first, const int is_seal) {
  __m256i stream[4];
  counter_blocks(*counter, stream, 4);
  *counter = _mm256_add_epi32(*counter, _mm256_set_epi32(0, 0, 0, 8, 0, 0, 0, 8));
  if (!is_seal)
    for (int i = 0; i < 4; i++) chunk[i] = reversed_pair(load_pair(text + 32 * i));
  if (is_first) encrypt_pairs(key, stream, 4);
  else encrypt_pairs_and_hash(key, stream, chunk, hash);
  for (int i = 0; i < 4; i++) {
    __m256i out = _mm256_xor_si256(load_pair(text + 32 * i), stream[i]);
    _mm256_storeu_si256((__m256i *)(text + 32 * i), out);
    if (is_seal) chunk[i] = reversed_pair(out);
  }
}

/* 1 to 32 bytes, zero behind. */
INLINE __m256i load_last(const uint8_t *at, size_t n, int has_before) {
  if (n == 32) return load_pair(at);
  if (n < 16) return _mm256_zextsi128_si256(load_part(at, n, has_before));
  if (n == 16) return _mm256_zextsi128_si256(load(at));
  return _mm256_set_m128i(load_part(at + 16, n - 16, 1), load(at));
}

/* Writes the first n bytes, 1 to 32; returns them, zero behind. */
INLINE __m256i store_last(uint8_t *at, size_t n, __m256i x) {
  __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
  if (n < 16) {
    store_part(at, low, n);
    return _mm256_zextsi128_si256(first_bytes(low, n));
  }
  if (n < 32) {
    _mm_storeu_si128((__m128i *)at, low);
    store_part(at + 16, high, n - 16);
    return _mm256_set_m128i(first_bytes(high, n - 16), low);
  }
  _mm256_storeu_si256((__m256i *)at, x);
  return x;
}

/* Runs the last `length` bytes, in n pairs of blocks of which the last may be a part, then the lengths. `is_short`: the
 * hash so far is a block still to be multiplied, else it belongs to the first block here. */
INLINE __m128i run_tail(const gcm_vaes_key *key, uint8_t *text, size_t length, const int n, __m256i counter,
                        __m128i hash, __m128i lengths, const int is_short, int has_before, const int is_seal) {
  __m256i stream[4], in[4], cipher[4];
  /* All is read before any is written: a part is read together with what stands before it. */
  const size_t last = length - 32 * (size_t)(n - 1);
  for (int i = 0; i < n - 1; i++) in[i] = load_pair(text + 32 * i);
  in[n - 1] = load_last(text + 32 * (n - 1), last, has_before);
  counter_blocks(counter, stream, n);
  encrypt_pairs(key, stream, n);
  for (int i = 0; i < n; i++) {
    __m256i out = _mm256_xor_si256(in[i], stream[i]);
    if (i < n - 1) _mm256_storeu_si256((__m256i *)(text + 32 * i), out);
    else out = store_last(text + 32 * i, last, out);
    cipher[i] = reversed_pair(is_seal ? out : in[i]);
  }
  /* With an odd number of blocks the last pair's second half is zero, whatever it is multiplied by. */
  unsigned blocks = (unsigned)((length + 15) / 16) + 1;
  __m256i factor = _mm256_zextsi128_si256(power(key, 1)), block = _mm256_zextsi128_si256(lengths);
  if (is_short) {
    factor = _mm256_inserti128_si256(factor, power(key, blocks + 1), 1);
    block = _mm256_inserti128_si256(block, hash, 1);
  } else {
    cipher[0] = _mm256_xor_si256(cipher[0], _mm256_zextsi128_si256(hash));
  }
  product sum = multiplied(block, factor);
  for (int i = 0; i < n; i++) add_multiplied(&sum, cipher[i], powers(key, blocks - 2 * (unsigned)i));
  return reduced(sum);
}

/* All of a tail's lengths. */
INLINE __m128i run_any_tail(const gcm_vaes_key *key, uint8_t *text, size_t length, __m256i counter, __m128i hash,
                            __m128i lengths, const int is_short, int has_before, const int is_seal) {
  switch ((length + 31) / 32) {
    case 0: return _mm_xor_si128(dot(hash, power(key, 2)), dot(lengths, power(key, 1)));
    case 1: return run_tail(key, text, length, 1, counter, hash, lengths, is_short, has_before, is_seal);
    case 2: return run_tail(key, text, length, 2, counter, hash, lengths, is_short, 1, is_seal);
    case 3: return run_tail(key, text, length, 3, counter, hash, lengths, is_short, 1, is_seal);
    default: return run_tail(key, text, length, 4, counter, hash, lengths, is_short, 1, is_seal);
  }
}

/* The nonce and a block counter of 1. */
INLINE __m128i first_counter(const uint8_t *nonce) {
  uint64_t high;
  uint32_t low;
  memcpy(&high, nonce, 8);
  memcpy(&low, nonce + 8, 4);
  return _mm_set_epi64x((long long)(0x0100000000000000u | low), (long long)high);
}

INLINE __m128i run(const gcm_vaes_key *key, const uint8_t *nonce, const uint8_t *aad, uint32_t aad_length,
                   uint8_t *text, size_t length, const int is_seal) {
  __m128i first = first_counter(nonce);
  __m128i mask = encrypted(key, first);
  __m256i counter = _mm256_add_epi32(
      _mm256_broadcastsi128_si256(reversed(first)), _mm256_set_epi32(0, 0, 0, 2, 0, 0, 0, 1));
  __m128i hash = reversed(first_bytes(load(aad), aad_length));
  __m128i lengths = _mm_set_epi64x((long long)aad_length * 8, (long long)length * 8);
  if (length <= 128) {
    hash = run_any_tail(key, text, length, counter, hash, lengths, 1, length >= 16, is_seal);
    return _mm_xor_si128(reversed(hash), mask);
  }
  hash = dot(hash, power(key, 1));
  __m256i chunk[4];
  if (is_seal) {
    run_chunk(key, text, &counter, chunk, &hash, 1, is_seal);
    text += 128, length -= 128;
  }
  for (; length > 128; text += 128, length -= 128) run_chunk(key, text, &counter, chunk, &hash, 0, is_seal);
  if (is_seal) hash = hashed_chunk(key, chunk, hash);
  hash = run_any_tail(key, text, length, counter, hash, lengths, 0, 1, is_seal);
  return _mm_xor_si128(reversed(hash), mask);
}

TARGET void gcm_vaes_seal(const gcm_vaes_key *key, const uint8_t *nonce, const uint8_t *aad, uint32_t aad_length,
                          uint8_t *text, size_t length, uint8_t *tag) {
  __m128i full = run(key, nonce, aad, aad_length, text, length, 1);
  if (key->icv_length == 16) _mm_storeu_si128((__m128i *)tag, full);
  else store_part(tag, full, key->icv_length);
}

TARGET void gcm_vaes_open(const gcm_vaes_key *key, const uint8_t *nonce, const uint8_t *aad, uint32_t aad_length,
                          uint8_t *text, size_t length, uint8_t *tag) {
  _mm_storeu_si128((__m128i *)tag, run(key, nonce, aad, aad_length, text, length, 0));
}

TARGET void gcm_vaes_authenticate(const gcm_vaes_key *key, const uint8_t *nonce, const uint8_t *first,
                                  const uint8_t *data, size_t length, const uint8_t *last, uint8_t *tag) {
  __m128i mask = encrypted(key, first_counter(nonce));
  size_t total = length + (first != NULL ? 16 : 0) + (last != NULL ? 4 : 0);
  __m128i hash = first != NULL ? dot(reversed(load(first)), power(key, 1)) : _mm_setzero_si128();
  for (; length >= 128; data += 128, length -= 128) {
    __m256i chunk[4];
    for (int i = 0; i < 4; i++) chunk[i] = reversed_pair(load_pair(data + 32 * i));
    hash = hashed_chunk(key, chunk, hash);
  }
  /* At most nine blocks are left, the last one padded, and the lengths. */
  uint8_t rest[10 * 16 + 16] = {0};
  memcpy(rest, data, length);
  if (last != NULL) memcpy(rest + length, last, 4);
  unsigned blocks = (unsigned)((length + (last != NULL ? 4 : 0) + 15) / 16);
  uint64_t bits = __builtin_bswap64((uint64_t)total * 8);
  memcpy(rest + blocks * 16, &bits, 8);
  blocks += 1;
  product sum = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  __m256i carried = _mm256_zextsi128_si256(hash);
  for (unsigned at = 0; at < blocks; at += 2) {
    __m256i pair = _mm256_xor_si256(reversed_pair(load_pair(rest + at * 16)), carried);
    carried = _mm256_setzero_si256();
    /* An odd one out is the last: H^1, and zero times what follows. */
    add_multiplied(&sum, pair, powers(key, blocks - at));
  }
  _mm_storeu_si128((__m128i *)tag, _mm_xor_si128(reversed(reduced(sum)), mask));
}

/* --- Keys --- */

/* FIPS 197's SubWord. */
INLINE uint32_t sub_word(uint32_t word) {
  return (uint32_t)_mm_cvtsi128_si32(_mm_aeskeygenassist_si128(_mm_set1_epi32((int)word), 0));
}

/* FIPS 197 section 5.2. */
INLINE void expand_rounds(gcm_vaes_key *key, const uint8_t *raw, size_t length) {
  uint32_t *words = (uint32_t *)key->round_keys, constant = 1;
  unsigned given = (unsigned)length / 4;
  key->rounds = given + 6;
  memcpy(words, raw, length);
  for (unsigned i = given; i < 4 * (key->rounds + 1); i++) {
    uint32_t word = words[i - 1];
    if (i % given == 0) {
      word = sub_word(word);
      word = (word >> 8 | word << 24) ^ constant;
      constant = constant << 1 ^ (constant >> 7) * 0x11b;
    } else if (given > 6 && i % given == 4) {
      word = sub_word(word);
    }
    words[i] = words[i - given] ^ word;
  }
}

TARGET void gcm_vaes_expand(gcm_vaes_key *key, const uint8_t *raw, size_t length) {
  memset(key, 0, sizeof *key);
  expand_rounds(key, raw, length);
  /* RFC 8452 appendix A: mulX of the reversed hash key. */
  __m128i h = reversed(encrypted(key, _mm_setzero_si128()));
  uint64_t low = (uint64_t)_mm_extract_epi64(h, 0), high = (uint64_t)_mm_extract_epi64(h, 1);
  uint64_t carry = high >> 63;
  high = (high << 1 | low >> 63) ^ (0 - carry & 0xc200000000000000u);
  low = low << 1 ^ carry;
  h = _mm_set_epi64x((long long)high, (long long)low);
  __m128i product = h;
  for (unsigned n = 1; n <= gcm_vaes_powers; n++, product = dot(product, h))
    _mm_storeu_si128((__m128i *)(key->powers + (gcm_vaes_powers - n) * 16), product);
}

#else

int gcm_vaes_supported(void) { return 0; }
void gcm_vaes_expand(gcm_vaes_key *key, const uint8_t *raw, size_t length) { (void)key, (void)raw, (void)length; }
void gcm_vaes_seal(const gcm_vaes_key *key, const uint8_t *nonce, const uint8_t *aad, uint32_t aad_length,
                   uint8_t *text, size_t length, uint8_t *tag) {
  (void)key, (void)nonce, (void)aad, (void)aad_length, (void)text, (void)length, (void)tag;
}
void gcm_vaes_open(const gcm_vaes_key *key, const uint8_t *nonce, const uint8_t *aad, uint32_t aad_length,
                   uint8_t *text, size_t length, uint8_t *tag) {
  (void)key, (void)nonce, (void)aad, (void)aad_length, (void)text, (void)length, (void)tag;
}
void gcm_vaes_authenticate(const gcm_vaes_key *key, const uint8_t *nonce, const uint8_t *first, const uint8_t *data,
                           size_t length, const uint8_t *last, uint8_t *tag) {
  (void)key, (void)nonce, (void)first, (void)data, (void)length, (void)last, (void)tag;
}
#endif
