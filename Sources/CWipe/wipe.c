// free() and realloc() that wipe what they give back, for the programs that link this. Keys pass through strings, JSON,
// buffers of the HTTP server and arrays that grow, none of which can be wiped by who made them: what is freed is zeroed,
// whoever it was. glibc asks for the replacement everywhere, its own calls and those of shared libraries included.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "wipe.h"

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
// A sanitizer brings an allocator of its own.
#if defined(__GLIBC__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)

extern void __libc_free(void *memory);
extern void *__libc_realloc(void *memory, size_t size);

// A chunk that is a mapping of its own goes back to the kernel, which clears it: bit 1 of the size before the memory, as in
// every glibc.
static int is_mapping(const void *memory) { return (((const size_t *)memory)[-1] & 2) != 0; }

static void release(void *memory) {
  if (!is_mapping(memory)) explicit_bzero(memory, malloc_usable_size(memory));
  __libc_free(memory);
}

__attribute__((visibility("default"))) void free(void *memory) {
  if (memory) release(memory);
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t size) {
  if (!memory) return malloc(size);
  if (size == 0) {
    release(memory);
    return NULL;
  }
  if (is_mapping(memory)) return __libc_realloc(memory, size);
  size_t had = malloc_usable_size(memory);
  if (size <= had) {
    explicit_bzero((char *)memory + size, had - size);
    return __libc_realloc(memory, size);
  }
  // Growth in place or by a copy is not for us to know: the old place is wiped.
  void *grown = malloc(size);
  if (!grown) return NULL;
  memcpy(grown, memory, had);
  release(memory);
  return grown;
}

#endif
