/* RFC 3339 times and dates, as milliseconds since 1970. */
#include <stdio.h>

#include "crypto/encode.h"

#define DAY_SECONDS 86400
#define LAST_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

/* Days since 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that
 * the leap day is the last of its year. */
static int64_t days_from_civil(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t m = (month + 9) % 12;
    int64_t leaps = y / 4 - y / 100 + y / 400;
    return 365 * y + leaps + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int month_days(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

/* Exactly n digits; moves *at past them. */
static bool take_digits(const char **at, int n, int *ret_value)
{
    int value = 0;
    for (int i = 0; i < n; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    *at += n;
    *ret_value = value;
    return true;
}

static bool take_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool take_date(const char **at, int64_t *ret_days)
{
    int year, month, day;
    if (!take_digits(at, 4, &year) || !take_char(at, '-') || !take_digits(at, 2, &month) ||
        !take_char(at, '-') || !take_digits(at, 2, &day))
        return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days(year, month))
        return false;
    *ret_days = days_from_civil(year, month, day);
    return true;
}

/* "" or "." and 1 to 12 digits; what is below a millisecond is cut. */
static bool take_fraction(const char **at, int *ret_ms)
{
    *ret_ms = 0;
    if (!take_char(at, '.'))
        return true;
    int n = 0;
    for (int scale = 100; **at >= '0' && **at <= '9'; (*at)++, n++, scale /= 10)
        *ret_ms += (**at - '0') * scale;
    return n >= 1 && n <= 12;
}

static bool take_offset(const char **at, int64_t *ret_seconds)
{
    *ret_seconds = 0;
    if (take_char(at, 'Z') || take_char(at, 'z'))
        return true;
    bool west = **at == '-';
    int hours, minutes;
    if (!(take_char(at, '+') || take_char(at, '-')) || !take_digits(at, 2, &hours) ||
        !take_char(at, ':') || !take_digits(at, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = (west ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

bool pfx_time_parse(const char *text, int64_t *ret_ms)
{
    const char *at = text;
    int64_t days, offset;
    int hours, minutes, seconds, fraction;
    if (!text || !take_date(&at, &days) || !(take_char(&at, 'T') || take_char(&at, 't')) ||
        !take_digits(&at, 2, &hours) || !take_char(&at, ':') || !take_digits(&at, 2, &minutes) ||
        !take_char(&at, ':') || !take_digits(&at, 2, &seconds) || !take_fraction(&at, &fraction) ||
        !take_offset(&at, &offset) || *at != '\0')
        return false;
    /* A leap second (:60) is refused: milliseconds since 1970 can't name it, and moving it would
     * give two moments one number. */
    if (hours > 23 || minutes > 59 || seconds > 59)
        return false;
    int64_t s = days * DAY_SECONDS + hours * 3600 + minutes * 60 + seconds - offset;
    int64_t ms = s * 1000 + fraction;
    if (ms < 0 || ms > LAST_MS)
        return false;
    *ret_ms = ms;
    return true;
}

bool pfx_date_parse(const char *text, int64_t *ret_ms)
{
    const char *at = text;
    int64_t days;
    if (!text || !take_date(&at, &days) || *at != '\0' || days < 0)
        return false;
    *ret_ms = days * DAY_SECONDS * 1000;
    return true;
}

struct civil {
    int year, month;
    unsigned day; /* from 0 */
};

static struct civil civil_from_days(int64_t days)
{
    struct civil c = {.year = (int)(1970 + days / 366), .month = 1}; /* at most some dozen early */
    while (days >= days_from_civil(c.year + 1, 1, 1))
        c.year++;
    c.day = (unsigned)(days - days_from_civil(c.year, 1, 1));
    while (c.day >= (unsigned)month_days(c.year, c.month))
        c.day -= (unsigned)month_days(c.year, c.month++);
    return c;
}

int64_t pfx_time_add_months(int64_t ms, unsigned months)
{
    if (ms < 0 || ms > LAST_MS || months > 9999 * 12)
        return LAST_MS;
    struct civil c = civil_from_days(ms / 1000 / DAY_SECONDS);
    unsigned month = (unsigned)(c.month - 1) + months;
    c.year += (int)(month / 12);
    c.month = (int)(month % 12) + 1;
    if (c.year > 9999)
        return LAST_MS;
    unsigned last = (unsigned)month_days(c.year, c.month) - 1;
    int64_t days = days_from_civil(c.year, c.month, (c.day < last ? c.day : last) + 1);
    return days * DAY_SECONDS * 1000 + ms % (INT64_C(1000) * DAY_SECONDS);
}

char *pfx_time_format(int64_t ms, bool with_ms, char buf[PFX_TIME_SIZE])
{
    /* Outside of four-digit years the nearest end stands: the parser must be able to read it. */
    if (ms < 0)
        ms = 0;
    if (ms > LAST_MS)
        ms = LAST_MS;
    int64_t days = ms / 1000 / DAY_SECONDS;
    unsigned rest = (unsigned)(ms / 1000 % DAY_SECONDS);
    struct civil c = civil_from_days(days);
    int n = snprintf(buf, PFX_TIME_SIZE, "%04d-%02d-%02uT%02u:%02u:%02u", c.year, c.month, c.day + 1,
                     rest / 3600, rest / 60 % 60, rest % 60);
    size_t at = n > 0 ? (size_t)n : 0;
    if (with_ms)
        snprintf(buf + at, PFX_TIME_SIZE - at, ".%03uZ", (unsigned)(ms % 1000));
    else
        snprintf(buf + at, PFX_TIME_SIZE - at, "Z");
    return buf;
}
