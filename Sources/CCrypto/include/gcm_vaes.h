#ifndef GCM_VAES_H
#define GCM_VAES_H
#include <stddef.h>
#include <stdint.h>

/* AES-GCM (NIST SP 800-38D) with 12 byte nonces on 256 bit VAES and VPCLMULQDQ: two blocks an instruction. Processors
 * that have these without AVX-512 (Zen 3, Alder Lake) get nothing from them in OpenSSL 3.0 and ipsec-mb 1.3.
 * In place; constant time in key and data; no state but the key. Only where gcm_vaes_supported() says 1. */

enum { gcm_vaes_powers = 10 };

/* One key's schedule. Read-only once expanded: any thread. Whole cache lines. */
typedef struct gcm_vaes_key {
  uint32_t rounds;
  uint32_t icv_length;                       /* the caller's */
  uint32_t reserved[2];
  uint8_t round_keys[15 * 16];
  uint8_t powers[gcm_vaes_powers * 16];      /* of the hash key, highest first, as POLYVAL has them (RFC 8452 app. A) */
  uint8_t unused[32];
} gcm_vaes_key;
_Static_assert(sizeof(gcm_vaes_key) == 448, "seven cache lines");

int gcm_vaes_supported(void);

/* `key` at a multiple of 16; `raw` of 16, 24 or 32 bytes. */
void gcm_vaes_expand(gcm_vaes_key *_Nonnull key, const uint8_t *_Nonnull raw, size_t length);

/* Encrypts `text` and writes the first `key->icv_length` bytes of the tag. `aad` has 16 readable bytes, of which
 * `aad_length` count. */
void gcm_vaes_seal(const gcm_vaes_key *_Nonnull key, const uint8_t *_Nonnull nonce, const uint8_t *_Nonnull aad,
                   uint32_t aad_length, uint8_t *_Nonnull text, size_t length, uint8_t *_Nonnull tag);

/* Decrypts `text` and writes the 16 byte tag that it should have had. */
void gcm_vaes_open(const gcm_vaes_key *_Nonnull key, const uint8_t *_Nonnull nonce, const uint8_t *_Nonnull aad,
                   uint32_t aad_length, uint8_t *_Nonnull text, size_t length, uint8_t *_Nonnull tag);

/* GMAC: the 16 byte tag over `first` (16 bytes) if given, then `data`, then `last` (4 bytes) if given. */
void gcm_vaes_authenticate(const gcm_vaes_key *_Nonnull key, const uint8_t *_Nonnull nonce,
                           const uint8_t *_Nullable first, const uint8_t *_Nonnull data, size_t length,
                           const uint8_t *_Nullable last, uint8_t *_Nonnull tag);
#endif
