/*
 * A segment file, read from front to back in large pieces: for the reader of the folder and for the
 * writer when it opens its log.
 */
#ifndef PFX_LOGDIR_SEGMENT_H
#define PFX_LOGDIR_SEGMENT_H

#include "crypto/entry.h"

struct pfx_segment_reader {
    int fd;      /* borrowed */
    uint64_t at; /* offset of the next record */
    struct pfx_buf window;
    uint64_t window_at; /* file offset of the window's first byte */
};
struct pfx_segment_reader pfx_segment_reader_make(int fd, uint64_t at);
void pfx_segment_reader_done(struct pfx_segment_reader *reader);
/* The record at `at`, borrowed until the next call; WHOLE moves on. What was read before isn't read
 * again, but for an END or SHORT: those are looked at in the file as it is now. */
PFX_MUST_USE pfx_result pfx_segment_next(struct pfx_segment_reader *reader, const char *path,
                                         enum pfx_record *ret_kind, struct pfx_bytes *ret_entry,
                                         struct pfx_error *err);

#endif
