#define _GNU_SOURCE
#include "copenssl.h"

#include <malloc.h>
#include <openssl/provider.h>
#include <string.h>
#include <strings.h>

/* Before any other use, so that libcrypto does not clean up in exit(), while other threads may still use it or free their
 * thread-local state of it (OPENSSL_init_crypto(3)). In every program that links this. */
__attribute__((constructor)) static void leave_exit_alone(void) { OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL); }

/* Whether `name` is one of the colon-separated `names`. */
static int has_name(const char *names, const char *name) {
  size_t length = strlen(name);
  for (const char *at = names; at != NULL; at = strchr(at, ':')) {
    if (*at == ':') at++;
    if (strncasecmp(at, name, length) == 0 && (at[length] == ':' || at[length] == 0)) return 1;
  }
  return 0;
}

/* Kept loaded for the life of the process: sessions hold its functions. Loaded before anything is fetched: libcrypto
 * 3.0 remembers an incomplete list of algorithms if one thread loads the provider while another first fetches. */
static OSSL_PROVIDER *default_provider;
static CRYPTO_ONCE default_provider_once = CRYPTO_ONCE_STATIC_INIT;
static void load_default_provider(void) { default_provider = OSSL_PROVIDER_load(NULL, "default"); }

int openssl_cipher_direct(const char *name, openssl_cipher *found) {
  if (!CRYPTO_THREAD_run_once(&default_provider_once, load_default_provider) || default_provider == NULL) return 0;
  OSSL_PROVIDER *provider = default_provider;
  int no_cache = 0;
  const OSSL_ALGORITHM *algorithm = OSSL_PROVIDER_query_operation(provider, OSSL_OP_CIPHER, &no_cache);
  while (algorithm != NULL && algorithm->algorithm_names != NULL && !has_name(algorithm->algorithm_names, name))
    algorithm++;
  if (algorithm == NULL || algorithm->algorithm_names == NULL || no_cache) return 0;
  openssl_cipher cipher = {.owner = OSSL_PROVIDER_get0_provider_ctx(provider), .tag_offset = -1};
  for (const OSSL_DISPATCH *entry = algorithm->implementation; entry->function_id != 0; entry++)
    switch (entry->function_id) {
      case OSSL_FUNC_CIPHER_NEWCTX: cipher.newctx = OSSL_FUNC_cipher_newctx(entry); break;
      case OSSL_FUNC_CIPHER_FREECTX: cipher.freectx = OSSL_FUNC_cipher_freectx(entry); break;
      case OSSL_FUNC_CIPHER_ENCRYPT_INIT: cipher.encrypt_init = OSSL_FUNC_cipher_encrypt_init(entry); break;
      case OSSL_FUNC_CIPHER_DECRYPT_INIT: cipher.decrypt_init = OSSL_FUNC_cipher_decrypt_init(entry); break;
      case OSSL_FUNC_CIPHER_UPDATE: cipher.update = OSSL_FUNC_cipher_update(entry); break;
      case OSSL_FUNC_CIPHER_FINAL: cipher.final = OSSL_FUNC_cipher_final(entry); break;
      case OSSL_FUNC_CIPHER_CIPHER: cipher.cipher = OSSL_FUNC_cipher_cipher(entry); break;
      case OSSL_FUNC_CIPHER_GET_CTX_PARAMS: cipher.get_ctx_params = OSSL_FUNC_cipher_get_ctx_params(entry); break;
      case OSSL_FUNC_CIPHER_SET_CTX_PARAMS: cipher.set_ctx_params = OSSL_FUNC_cipher_set_ctx_params(entry); break;
    }
  *found = cipher;
  return cipher.newctx != NULL && cipher.freectx != NULL && cipher.encrypt_init != NULL && cipher.decrypt_init != NULL
      && cipher.update != NULL && cipher.final != NULL && cipher.cipher != NULL && cipher.get_ctx_params != NULL
      && cipher.set_ctx_params != NULL;
}

/* A message that differs with its number. */
enum { trials = 12, trial_text = 96 };
typedef struct trial {
  unsigned char key[32], nonce[12], aad[8], text[trial_text], sealed[trial_text], tag[16];
  size_t key_length, length;
} trial;

static int trial_seal(const openssl_cipher *cipher, void *context, size_t key_length, unsigned number, trial *made) {
  *made = (trial){.key_length = key_length, .length = number * 11 % 64};
  memset(made->key, (int)(number / 4) + 1, sizeof made->key);
  memset(made->nonce, (int)number * 3 + 1, sizeof made->nonce);
  memset(made->aad, (int)number + 7, sizeof made->aad);
  memset(made->text, (int)number, sizeof made->text);
  memcpy(made->sealed, made->text, sizeof made->sealed);
  size_t done = 0;
  OSSL_PARAM parameters[] = {openssl_tag_parameter(made->tag, sizeof made->tag), openssl_end_parameter()};
  return cipher->encrypt_init(context, made->key, key_length, made->nonce, sizeof made->nonce, NULL)
      && cipher->update(context, NULL, &done, sizeof made->aad, made->aad, sizeof made->aad)
      && cipher->update(context, made->sealed, &done, sizeof made->sealed, made->sealed, made->length)
      && cipher->final(context, made->sealed, &done, 16) && cipher->get_ctx_params(context, parameters);
}

/* Opens with `tag` put where the context keeps it; 0 also where it opened to something else. */
static int trial_open(const openssl_cipher *cipher, unsigned char *context, const trial *sealed,
                      const unsigned char *tag, size_t tag_length) {
  unsigned char text[trial_text];
  size_t done = 0;
  memcpy(text, sealed->sealed, sizeof text);
  if (!cipher->decrypt_init(context, NULL, 0, sealed->nonce, sizeof sealed->nonce, NULL)) return 0;
  memcpy(context + cipher->tag_offset, tag, tag_length);
  return cipher->update(context, NULL, &done, sizeof sealed->aad, sealed->aad, sizeof sealed->aad)
      && cipher->update(context, text, &done, sizeof text, text, sealed->length)
      && cipher->final(context, text, &done, 16) && memcmp(text, sealed->text, sealed->length) == 0;
}

/* Whether one message under one key opens with its tag alone, whatever was tried before. */
static int trial_takes_tag(const openssl_cipher *cipher, unsigned char *context, const trial *sealed,
                           const trial *other, size_t tag_length) {
  unsigned char tag[16] = {0};
  OSSL_PARAM parameters[] = {openssl_tag_parameter(tag, tag_length), openssl_end_parameter()};
  if (!cipher->decrypt_init(context, sealed->key, sealed->key_length, sealed->nonce, sizeof sealed->nonce, parameters))
    return 0;
  if (!trial_open(cipher, context, sealed, sealed->tag, tag_length)) return 0;
  if (trial_open(cipher, context, sealed, other->tag, tag_length)) return 0;
  for (size_t bit = 0; bit < tag_length * 8; bit++) {
    memcpy(tag, sealed->tag, sizeof tag);
    tag[bit / 8] ^= (unsigned char)(1u << bit % 8);
    if (trial_open(cipher, context, sealed, tag, tag_length)) return 0;
    if (bit % 8 == 0 && !trial_open(cipher, context, sealed, sealed->tag, tag_length)) return 0;
  }
  return trial_open(cipher, context, sealed, sealed->tag, tag_length);
}

void openssl_cipher_find_tag(openssl_cipher *found, size_t key_length, const size_t *tag_lengths) {
  unsigned char *context = found->newctx(found->owner);
  found->tag_offset = -1;
  found->takes_tag = 0;
  if (context == NULL) return;
  trial made[trials];
  ptrdiff_t offset = -1;
  for (unsigned number = 0; number < trials; number++) {
    if (!trial_seal(found, context, key_length, number, &made[number])) goto out;
    if (number == 0) {
      unsigned char *at = memmem(context, malloc_usable_size(context), made[0].tag, sizeof made[0].tag);
      if (at == NULL) goto out;
      offset = at - context;
    } else if (memcmp(context + offset, made[number].tag, sizeof made[number].tag) != 0) {
      goto out;
    }
  }
  found->tag_offset = offset;
  found->freectx(context);
  context = found->newctx(found->owner);
  if (context == NULL) return;
  int takes = 1;
  for (const size_t *length = tag_lengths; takes && *length != 0; length++)
    for (unsigned number = 0; takes && number < trials; number++)
      takes = trial_takes_tag(found, context, &made[number], &made[(number + 1) % trials], *length);
  found->takes_tag = takes;
out:
  found->freectx(context);
}

/* EVP in the shape of a dispatch table: `owner` is the EVP_CIPHER, a context an EVP_CIPHER_CTX. */

static void *evp_newctx(void *owner) {
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  if (context != NULL && EVP_CipherInit_ex2(context, owner, NULL, NULL, 1, NULL) == 1) return context;
  EVP_CIPHER_CTX_free(context);
  return NULL;
}

static void evp_freectx(void *context) { EVP_CIPHER_CTX_free(context); }

static int evp_encrypt_init(void *context, const unsigned char *key, size_t key_length, const unsigned char *iv,
                            size_t iv_length, const OSSL_PARAM parameters[]) {
  (void)key_length, (void)iv_length;
  return EVP_CipherInit_ex2(context, NULL, key, iv, 1, parameters) == 1;
}

static int evp_decrypt_init(void *context, const unsigned char *key, size_t key_length, const unsigned char *iv,
                            size_t iv_length, const OSSL_PARAM parameters[]) {
  (void)key_length, (void)iv_length;
  return EVP_CipherInit_ex2(context, NULL, key, iv, 0, parameters) == 1;
}

static int evp_update(void *context, unsigned char *out, size_t *out_length, size_t out_size, const unsigned char *in,
                      size_t in_length) {
  (void)out_size;
  int length = 0;
  int done = EVP_CipherUpdate(context, out, &length, in, (int)in_length) == 1;
  *out_length = (size_t)length;
  return done;
}

static int evp_cipher(void *context, unsigned char *out, size_t *out_length, size_t out_size, const unsigned char *in,
                      size_t in_length) {
  (void)out_size;
  int length = EVP_Cipher(context, out, in, (unsigned)in_length);
  *out_length = length < 0 ? 0 : (size_t)length;
  return length >= 0;
}

/* Not EVP_Cipher without input, which some ciphers and releases take for a message that goes on. */
static int evp_final(void *context, unsigned char *out, size_t *out_length, size_t out_size) {
  (void)out_size;
  int length = 0;
  int done = EVP_CipherFinal_ex(context, out, &length) == 1;
  *out_length = (size_t)length;
  return done;
}

static int evp_get_ctx_params(void *context, OSSL_PARAM parameters[]) {
  return EVP_CIPHER_CTX_get_params(context, parameters) == 1;
}

static int evp_set_ctx_params(void *context, const OSSL_PARAM parameters[]) {
  return EVP_CIPHER_CTX_set_params(context, parameters) == 1;
}

int openssl_cipher_evp(const char *name, openssl_cipher *found) {
  if (!CRYPTO_THREAD_run_once(&default_provider_once, load_default_provider)) return 0;
  /* Fetched once a name and kept for the life of the process, as the direct functions are. */
  EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
  if (cipher == NULL) return 0;
  *found = (openssl_cipher){
      .encrypt_init = evp_encrypt_init, .decrypt_init = evp_decrypt_init, .update = evp_update, .final = evp_final,
      .cipher = evp_cipher, .get_ctx_params = evp_get_ctx_params, .set_ctx_params = evp_set_ctx_params,
      .newctx = evp_newctx, .freectx = evp_freectx, .owner = cipher, .tag_offset = -1, .takes_tag = 0};
  return 1;
}
