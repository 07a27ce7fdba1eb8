#include "api/logdir/segment.h"

#include <errno.h>
#include <unistd.h>

#define WINDOW (256 * 1024)
#define WINDOW_MAX (4 * 1024 * 1024)

struct pfx_segment_reader pfx_segment_reader_make(int fd, uint64_t at)
{
    return (struct pfx_segment_reader){
        .fd = fd, .at = at, .window = pfx_buf_make(WINDOW_MAX), .window_at = at};
}

void pfx_segment_reader_done(struct pfx_segment_reader *reader)
{
    pfx_buf_done(&reader->window);
}

static pfx_result fill(struct pfx_segment_reader *reader, const char *path, struct pfx_error *err)
{
    pfx_buf_reset(&reader->window);
    reader->window_at = reader->at;
    uint8_t *data = pfx_buf_extend(&reader->window, WINDOW);
    size_t got = 0;
    while (got < WINDOW) {
        ssize_t n = pread(reader->fd, data + got, WINDOW - got, (off_t)(reader->at + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            pfx_buf_reset(&reader->window);
            return pfx_fail_errno(err, error, "read log", path, "Look at the disk.");
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    pfx_buf_cut(&reader->window, got);
    return PFX_OK;
}

pfx_result pfx_segment_next(struct pfx_segment_reader *reader, const char *path,
                            enum pfx_record *ret_kind, struct pfx_bytes *ret_entry,
                            struct pfx_error *err)
{
    for (bool fresh = false;; fresh = true) {
        bool inside =
            reader->at >= reader->window_at && reader->at <= reader->window_at + reader->window.len;
        if (inside) {
            size_t offset = (size_t)(reader->at - reader->window_at);
            enum pfx_record kind =
                pfx_record_next(pfx_buf_bytes(&reader->window), &offset, ret_entry);
            if (kind == PFX_RECORD_WHOLE || fresh) {
                if (kind == PFX_RECORD_WHOLE)
                    reader->at = reader->window_at + offset;
                *ret_kind = kind;
                return PFX_OK;
            }
        }
        PFX_TRY(fill(reader, path, err));
    }
}
