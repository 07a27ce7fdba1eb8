/*
 * Files of an input in place of those of the disk, for parsers that open what they read. A target
 * that links it (with the --wrap options of fuzz.cmake) sees no other file.
 *
 *   @NAME\n      a file begins; NAME may have slashes
 *   ...          its content up to the next line that begins with @ (a line @@... gives @...)
 *
 * NAME:N is followed by N bytes of any kind, and then a line feed. NAME! is changed by memfs_form.
 * NAME? can't be read, NAME- can't be opened.
 */
#ifndef PFX_FUZZ_MEMFS_H
#define PFX_FUZZ_MEMFS_H

#include "fuzz.h"

/* What a content between @NAME! and the next file becomes; NULL: it stays. */
extern void (*memfs_form)(struct pfx_buf *content);
/* From here on there are the files of this input, which is borrowed, and no others. */
void memfs_begin(struct pfx_bytes input);
/* The disk is back. A descriptor that is still open is a finding. */
void memfs_end(void);

#endif
