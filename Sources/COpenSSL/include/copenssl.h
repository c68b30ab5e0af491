#ifndef COPENSSL_H
#define COPENSSL_H
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/md5.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

/* The functions of one cipher as a provider's dispatch table has them (provider-cipher(7)). Immutable once found. */
typedef struct openssl_cipher {
  OSSL_FUNC_cipher_encrypt_init_fn *_Nonnull encrypt_init;
  OSSL_FUNC_cipher_decrypt_init_fn *_Nonnull decrypt_init;
  OSSL_FUNC_cipher_update_fn *_Nonnull update;
  OSSL_FUNC_cipher_final_fn *_Nonnull final;
  OSSL_FUNC_cipher_cipher_fn *_Nonnull cipher;
  OSSL_FUNC_cipher_get_ctx_params_fn *_Nonnull get_ctx_params;
  OSSL_FUNC_cipher_set_ctx_params_fn *_Nonnull set_ctx_params;
  OSSL_FUNC_cipher_newctx_fn *_Nonnull newctx;
  OSSL_FUNC_cipher_freectx_fn *_Nonnull freectx;
  void *_Nullable owner;          /* what newctx takes */
  ptrdiff_t tag_offset;           /* where a context keeps the tag of the message just sealed; -1: not known */
  int takes_tag;                  /* the tag of the message to open may be put there */
} openssl_cipher;

/* Fills `found` with the default provider's own functions for `name`; 0 if any is missing. */
int openssl_cipher_direct(const char *_Nonnull name, openssl_cipher *_Nonnull found);
/* Finds `tag_offset` of an AEAD with 12 byte nonces. Asking get_ctx_params for the tag costs a quarter of a small
 * packet, and so does giving it as a parameter: each compares the name of every parameter there is. So the tag is looked
 * for, once, in what newctx allocated, and where it stands after each of several messages under several keys it is read
 * from then on. It is put there for opening (`takes_tag`, in a context that was given a tag of that length as a parameter
 * once) if then right tags open, and wrong and stale ones do not, in any order, at each of `tag_lengths` (ended by 0). Stays within the allocation; changes
 * nothing but `found`. */
void openssl_cipher_find_tag(openssl_cipher *_Nonnull found, size_t key_length, const size_t *_Nonnull tag_lengths);
/* The same functions, each made of EVP calls; 0 if libcrypto has no such cipher. */
int openssl_cipher_evp(const char *_Nonnull name, openssl_cipher *_Nonnull found);

/* An AEAD tag of `length` bytes at `data`, as set_ctx_params and get_ctx_params take it; NULL: its length only. */
static inline OSSL_PARAM openssl_tag_parameter(void *_Nullable data, size_t length) {
  return OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, data, length);
}
static inline OSSL_PARAM openssl_iv_length_parameter(size_t *_Nonnull length) {
  return OSSL_PARAM_construct_size_t(OSSL_CIPHER_PARAM_AEAD_IVLEN, length);
}
static inline OSSL_PARAM openssl_end_parameter(void) { return OSSL_PARAM_construct_end(); }
#endif
