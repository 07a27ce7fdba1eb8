/* Foreign text on its way into an error or a result: printable, whole characters, cut to size. */
#ifndef PFX_UPLOADER_TEXT_H
#define PFX_UPLOADER_TEXT_H

#include <stddef.h>

/* Copies src (len bytes of anything) into dest: runs of white space become one space; control
 * characters, bidirectional marks and broken UTF-8 become '?'. Cut text ends in "...". dest has
 * size bytes, at least 8. Returns dest. */
char *pfx_text_clean(char *dest, size_t size, const char *src, size_t len);
/* For what is data and no message (names, addresses): characters that can't be seen stay, since
 * without them it would be another name; control characters and broken UTF-8 become U+FFFD, which
 * nobody takes for a letter. White space and cutting as above. */
char *pfx_text_data(char *dest, size_t size, const char *src);
/* The same as pfx_text_clean for a NUL-terminated text; NULL reads as "". */
char *pfx_text_clean_str(char *dest, size_t size, const char *src);
/* The GUID that follows label in text ("Activity ID: "), lower case, into a buffer of 37 bytes;
 * "" when there is none. Returns dest. */
char *pfx_text_guid_after(char *dest, const char *text, const char *label);
/* Is it 8-4-4-4-12 hexadecimal digits? */
_Bool pfx_text_is_guid(const char *text);

#endif
