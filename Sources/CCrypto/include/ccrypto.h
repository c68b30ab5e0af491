#ifndef CCRYPTO_H
#define CCRYPTO_H
#include <stddef.h>
#include <stdint.h>
#include "gcm_vaes.h"

/* One packet's cryptographic work, in place. Filled by a stage, run by an engine in bursts, read back by the stage.
 * Owned by one worker. Two cache lines.
 *
 * AEAD: `text` is encrypted or decrypted under `nonce` with `aad`; the ICV is at `icv`.
 * NULL-GMAC for ESP (RFC 4543): nothing is encrypted; the ICV is taken over `aad`, then the 8 byte IV that stands in
 * the packet just before `text`, then `text`.
 * The others: `text` is en- or decrypted under the IV in `nonce`; the ICV is taken over `authenticated` (ESP header, IV
 * and ciphertext; AH: the whole image), then over the 4 bytes of `sequence_high` if `has_sequence_high`
 * (RFC 4303 section 2.2.1). GMAC for AH is one of these: the image, under `nonce`.
 * With `has_sequence_high`, 4 bytes behind the authenticated ones must be addressable (ESP: the ICV stands there): an
 * engine may write there while it runs, and puts back what it found.
 * A block cipher's `text_length` must be a multiple of its block; a job that breaks this fails. */
struct crypto_job;
/* Runs `count` jobs. Each session came with this function, but sessions of several SAs may stand in one burst.
 * Sets `succeeded` in each. Never allocates, locks or calls the system. Open compares ICVs in constant time and leaves
 * the text of a failed job unspecified. */
typedef void (*crypto_burst)(struct crypto_job *_Nonnull jobs, ptrdiff_t count);
typedef void (*crypto_destroy)(void *_Nonnull base);

typedef struct crypto_job {
  void *_Nonnull session;                /* the engine's key schedules of this SA, for this worker */
  uint8_t *_Nonnull text;
  uint8_t *_Nonnull authenticated;
  uint8_t *_Nonnull icv;                 /* seal: where the ICV is written; open: where the received ICV stands */
  uint32_t text_length;
  uint32_t authenticated_length;
  uint64_t nonce[2];            /* as the cipher takes it, left to right in memory: 12 bytes (salt, IV) for GCM, GMAC
                                   and ChaCha20; 11 for CCM; 16 for CBC; 16 for CTR (nonce, IV, counter 1);
                                   8 for 3DES */
  uint64_t aad[2];              /* SPI and 32-bit (8 bytes) or 64-bit (12 bytes) sequence number; what is behind them is
                                   the engine's while it runs */
  uint32_t aad_length;
  uint32_t sequence_high;       /* big-endian */
  uint8_t has_sequence_high;
  uint8_t succeeded;            /* set by the engine: seal did its work, open verified the ICV */
  uint16_t index;               /* the caller's: which packet of its burst */
  uint32_t kept;                /* the engine's while it runs, as is the next */
  void *_Nullable wrapped;
  crypto_burst _Nullable run;            /* the caller's: what runs the job on another worker, and how far that one's */
  uint32_t session_stride;               /* key schedules lie from this one's */
  uint32_t reserved[5];
} crypto_job;
_Static_assert(sizeof(crypto_job) == 128, "two cache lines");

/* Where the nonce and the AAD stand in a job, as the libraries take them. */
static inline uint8_t *_Nonnull crypto_job_nonce(crypto_job *_Nonnull job) { return (uint8_t *)job->nonce; }
static inline uint8_t *_Nonnull crypto_job_aad(crypto_job *_Nonnull job) { return (uint8_t *)job->aad; }
static inline uint8_t *_Nonnull crypto_job_sequence_high(crypto_job *_Nonnull job) {
  return (uint8_t *)&job->sequence_high;
}

/* Whether two ICVs are the same, in time that depends on their length alone, a multiple of 4 as all ICVs are. */
static inline int crypto_icv_equal(const uint8_t *_Nonnull a, const uint8_t *_Nonnull b, uint32_t length) {
  uint64_t difference = 0;
  uint32_t offset = 0;
  for (; offset + 8 <= length; offset += 8) {
    uint64_t x, y;
    __builtin_memcpy(&x, a + offset, 8);
    __builtin_memcpy(&y, b + offset, 8);
    difference |= x ^ y;
    __asm__("" : "+r"(difference));  /* keeps the compiler from leaving early */
  }
  if (offset < length) {
    uint32_t x, y;
    __builtin_memcpy(&x, a + offset, 4);
    __builtin_memcpy(&y, b + offset, 4);
    difference |= x ^ y;
    __asm__("" : "+r"(difference));  /* keeps the compiler from leaving early */
  }
  return difference == 0;
}

/* Brings the cache line at `address` near; any address may be given. */
static inline void crypto_prefetch(const void *_Nullable address) { __builtin_prefetch(address); }
#endif
