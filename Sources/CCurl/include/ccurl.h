#ifndef CCURL_H
#define CCURL_H
#include <curl/curl.h>

// curl_easy_setopt and curl_easy_getinfo are variadic, which Swift cannot call: one function for each type of argument.
CURLcode ccurl_set_long(CURL *handle, CURLoption option, long value);
CURLcode ccurl_set_string(CURL *handle, CURLoption option, const char *value);
CURLcode ccurl_set_pointer(CURL *handle, CURLoption option, void *value);
CURLcode ccurl_set_headers(CURL *handle, struct curl_slist *headers);
// Copies the body.
CURLcode ccurl_set_body(CURL *handle, const void *bytes, curl_off_t length);

// Returns the number of bytes taken; another number ends the transfer.
typedef size_t (*ccurl_write)(char *bytes, size_t size, size_t count, void *context);
CURLcode ccurl_set_write(CURL *handle, ccurl_write function, void *context);
// Called about once a second and more often while bytes move; not 0 ends the transfer.
typedef int (*ccurl_progress)(void *context, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
CURLcode ccurl_set_progress(CURL *handle, ccurl_progress function, void *context);

// The status of the last response, 0 if there was none.
long ccurl_status(CURL *handle);
// The errno of the last failure to connect.
long ccurl_os_errno(CURL *handle);
#endif
