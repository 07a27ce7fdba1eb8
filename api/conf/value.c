/* The values of options: durations, sizes, names, URLs and the like from their text. */
#include <ctype.h>
#include <string.h>

#include "api/conf/table.h"
#include "api/conf/uploader_conf.h"
#include "crypto/schedule.h"

#define DIGITS "0123456789"
#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS

struct unit {
    const char *word;
    int64_t factor;
};
static const struct unit time_units[] = {{"ms", 1},          {"s", 1000},      {"m", 60000},
                                         {"h", 3600000},     {"d", 86400000},  {NULL, 0}};
static const struct unit size_units[] = {{"", 1},           {"KiB", 1024}, {"MiB", 1024 * 1024},
                                         {"GiB", 1 << 30},  {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit day_units[] = {{"d", 1}, {NULL, 0}};

bool pfx_option_is_text(enum pfx_opt_type type)
{
    switch (type) {
    case PFX_O_TEXT:
    case PFX_O_NAME:
    case PFX_O_ACCOUNT:
    case PFX_O_PATH:
    case PFX_O_PIN_FILE:
    case PFX_O_GUID:
    case PFX_O_URL:
    case PFX_O_PROXY:
    case PFX_O_TOKEN:
    case PFX_O_WORD:
        return true;
    default:
        return false;
    }
}

/* A decimal integer and its unit: no sign, no leading zero (octal, for other readers), no
 * underscores. */
static bool parse_amount(const char *text, size_t len, const struct unit *units, int64_t *ret)
{
    size_t digits = strspn(text, DIGITS);
    if (digits > len)
        digits = len;
    if (digits < 1 || digits > 15 || (text[0] == '0' && digits > 1))
        return false;
    int64_t amount = 0;
    for (size_t i = 0; i < digits; i++)
        amount = amount * 10 + (text[i] - '0');
    for (; units->word; units++) {
        if (strlen(units->word) == len - digits &&
            memcmp(text + digits, units->word, len - digits) == 0)
            return !__builtin_mul_overflow(amount, units->factor, ret);
    }
    return false;
}

static bool in_range(const struct pfx_option *row, int64_t value)
{
    return value >= row->min && value <= row->max;
}

static bool parse_number(const struct pfx_option *row, const char *text, const struct unit *units,
                         int64_t *ret)
{
    int64_t value;
    if (!parse_amount(text, strlen(text), units, &value) || !in_range(row, value))
        return false;
    *ret = value;
    return true;
}

static bool parse_duration(const struct pfx_option *row, const char *text, int64_t *ret,
                           const char **ret_why)
{
    if (strcmp(text, "never") == 0) {
        if (row->min > 0)
            return false;
        *ret = 0;
        return true;
    }
    int64_t value;
    if (!parse_amount(text, strlen(text), time_units, &value)) {
        if (*text && text[strspn(text, DIGITS)] == 0)
            *ret_why = "the unit is missing";
        return false;
    }
    if (value == 0 || !in_range(row, value))
        return false;
    *ret = value;
    return true;
}

static bool parse_rate(const char *text, struct pfx_rate_conf *ret)
{
    const char *slash = strchr(text, '/');
    int64_t requests, window;
    if (!slash || !parse_amount(text, (size_t)(slash - text), no_units, &requests) ||
        !parse_amount(slash + 1, strlen(slash + 1), time_units, &window))
        return false;
    if (requests < 1 || requests > 1000000 || window < 100 || window > PFX_HOURS(24))
        return false;
    *ret = (struct pfx_rate_conf){(unsigned)requests, window};
    return true;
}

/* Place of text in "a|b|c"; -1: none of them. */
static int choice(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (int i = 0;; i++) {
        size_t n = strcspn(choices, "|");
        if (n == len && len > 0 && memcmp(choices, text, n) == 0)
            return i;
        if (!choices[n])
            return -1;
        choices += n + 1;
    }
}

static bool only(const char *text, const char *letters, size_t min, size_t max)
{
    size_t len = strlen(text);
    return len >= min && len <= max && strspn(text, letters) == len;
}

static bool is_path(const char *text, int64_t max, const char **ret_why)
{
    if (text[0] != '/' || (int64_t)strlen(text) > max)
        return false;
    for (const char *p = text; (p = strchr(p, '/')) != NULL;) {
        size_t n = strcspn(++p, "/");
        if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
            *ret_why = "\".\" and \"..\" aren't taken in paths";
            return false;
        }
    }
    return true;
}

static bool is_guid(const char *text)
{
    if (strlen(text) != 36)
        return false;
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return true;
}

/* host, host:port or [v6]:port; *ret_end is where it ends. */
static bool is_authority(const char *text, bool need_port, const char **ret_end)
{
    size_t host = text[0] == '[' ? strspn(text + 1, "0123456789abcdefABCDEF:.") + 2
                                 : strspn(text, ALNUM ".-");
    if (text[0] == '[' ? host < 4 || text[host - 1] != ']'
                       : host < 1 || host > 253 || text[0] == '.' || text[0] == '-')
        return false;
    text += host;
    if (*text == ':') {
        size_t digits = strspn(text + 1, DIGITS);
        int64_t port;
        if (!parse_amount(text + 1, digits, no_units, &port) || port < 1 || port > 65535)
            return false;
        text += 1 + digits;
    } else if (need_port) {
        return false;
    }
    *ret_end = text;
    return true;
}

static bool is_url(const char *text, const char **ret_why)
{
    const char *end;
    if (strncmp(text, "http://", 7) == 0)
        *ret_why = "http isn't taken: what is sent must be encrypted";
    else if (strchr(text, '@'))
        *ret_why = "user and password don't belong into a URL";
    else if (strpbrk(text, "?#"))
        *ret_why = "a query or fragment isn't taken";
    if (*ret_why || strncmp(text, "https://", 8) != 0 || strlen(text) > 500 ||
        !is_authority(text + 8, false, &end))
        return false;
    return *end == 0 || (*end == '/' && strspn(end, ALNUM "/._~-") == strlen(end));
}

static bool is_proxy(const char *text, const char **ret_why)
{
    const char *end;
    if (strchr(text, '@'))
        *ret_why = "user and password aren't taken here";
    size_t scheme = strncmp(text, "http://", 7) == 0    ? 7
                    : strncmp(text, "https://", 8) == 0 ? 8
                                                        : 0;
    return !*ret_why && scheme > 0 && is_authority(text + scheme, true, &end) &&
           (*end == 0 || strcmp(end, "/") == 0);
}

/* The attribute names of RFC 7512 only; p11-kit reads the rest. A URI is kept and shown, so it
 * must hold no PIN; a slot number means another token after the next start. */
static bool is_token(const char *text, const char **ret_why)
{
    bool token = false;
    if (strncmp(text, "pkcs11:", 7) != 0 || strlen(text) > 1000)
        return false;
    for (const char *p = text + 7; *p; p += strspn(p, ";?&")) {
        size_t n = strcspn(p, ";?&"), name = strcspn(p, "=;?&");
        if ((name == 9 && memcmp(p, "pin-value", 9) == 0) ||
            (name == 10 && memcmp(p, "pin-source", 10) == 0))
            *ret_why = "a PIN doesn't belong into a URI: see pin_file";
        else if (name == 7 && memcmp(p, "slot-id", 7) == 0)
            *ret_why = "slot numbers change: name the token by serial or token label";
        else if (n > name + 1 && ((name == 6 && memcmp(p, "serial", 6) == 0) ||
                                  (name == 5 && memcmp(p, "token", 5) == 0)))
            token = true;
        p += n;
    }
    if (!*ret_why && strchr(text, '?'))
        *ret_why = "nothing is taken behind a \"?\", where a PIN would stand";
    if (!*ret_why && !token)
        *ret_why = "neither serial nor token is in it";
    return !*ret_why;
}

static bool text_fits(const struct pfx_option *row, const char *text, const char **ret_why)
{
    switch (row->type) {
    case PFX_O_NAME:
        return only(text, "abcdefghijklmnopqrstuvwxyz" DIGITS "-", 1, (size_t)row->max) &&
               text[0] != '-';
    case PFX_O_ACCOUNT:
        return only(text, ALNUM "_.-", 1, 32) && text[0] != '-' && text[0] != '.';
    case PFX_O_PATH:
        return is_path(text, row->max, ret_why);
    case PFX_O_PIN_FILE:
        return is_path(text, row->max, ret_why) ||
               (!*ret_why && only(text, ALNUM "_.-", 1, 255) && text[0] != '.');
    case PFX_O_GUID:
        return is_guid(text);
    case PFX_O_URL:
        return is_url(text, ret_why);
    case PFX_O_PROXY:
        return is_proxy(text, ret_why);
    case PFX_O_TOKEN:
        return is_token(text, ret_why);
    case PFX_O_WORD:
        return choice(row->choices, text) >= 0;
    default:
        return (int64_t)strlen(text) >= row->min && (int64_t)strlen(text) <= row->max;
    }
}

/* One spelling for what is compared or put together later. */
static char *normal_text(enum pfx_opt_type type, const char *text)
{
    char *copy = pfx_strdup(text);
    if (type == PFX_O_GUID) {
        for (char *p = copy; *p; p++)
            *p = (char)tolower((unsigned char)*p);
    } else if (type == PFX_O_URL || type == PFX_O_PATH) {
        for (size_t len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
            copy[len - 1] = 0;
    }
    return copy;
}

/* "1y", "2y", or days. */
static bool parse_validity(const char *text, int *years_days)
{
    static const struct unit year[] = {{"y", 1}, {NULL, 0}};
    int64_t n;
    if (parse_amount(text, strlen(text), year, &n) && n >= 1 && n <= 2) {
        years_days[0] = (int)n;
        years_days[1] = 0;
        return true;
    }
    if (parse_amount(text, strlen(text), day_units, &n) && n >= 1 && n <= 824) {
        years_days[0] = 0;
        years_days[1] = (int)n;
        return true;
    }
    return false;
}

/* "12mo", or days. */
static bool parse_period(const struct pfx_option *row, const char *text, struct pfx_period *ret)
{
    static const struct unit month[] = {{"mo", 1}, {NULL, 0}};
    int64_t n;
    if (parse_amount(text, strlen(text), month, &n) && n >= 1 && n <= row->max * 12 / 365) {
        *ret = (struct pfx_period){.months = (unsigned)n};
        return true;
    }
    if (!parse_number(row, text, day_units, &n))
        return false;
    *ret = (struct pfx_period){.days = (unsigned)n};
    return true;
}

static bool parse_bool(const char *text, bool plain, bool *field, const char **ret_why)
{
    static const char others[] = "yes|no|on|off|y|n|Yes|No|On|Off|True|False|"
                                 "TRUE|FALSE|YES|NO|ON|OFF";
    if (plain && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        *field = text[0] == 't';
        return true;
    }
    if (!plain)
        *ret_why = "quotes make a text of it";
    else if (choice(others, text) >= 0)
        *ret_why = "YAML 1.2 knows only true and false";
    return false;
}

bool pfx_option_parse_member(const struct pfx_option *row, const char *text, bool *field)
{
    int place = choice(row->choices, text);
    if (place >= 0)
        field[place] = true;
    return place >= 0;
}

/* "a, b, c": a default. */
static bool parse_set(const struct pfx_option *row, const char *text, bool *field)
{
    while (*text) {
        size_t n = strcspn(text, ",");
        char *word PFX_AUTOFREE = pfx_strndup(text, n);
        if (!pfx_option_parse_member(row, word, field))
            return false;
        text += n + strspn(text + n, ", ");
    }
    return true;
}

static bool parse_choice(const struct pfx_option *row, const char *text, void *field)
{
    int place = choice(row->choices, text);
    if (place < 0)
        return false;
    if (row->type == PFX_O_FLAG) {
        *(bool *)field = place == 1;
    } else {
        int value = (int)row->min + place;
        memcpy(field, &value, sizeof(value));
    }
    return true;
}

bool pfx_option_parse(const struct pfx_option *row, const char *text, bool plain, void *field,
                      const char **ret_why)
{
    int64_t value;
    *ret_why = NULL;
    if (pfx_option_is_text(row->type)) {
        if (!text_fits(row, text, ret_why))
            return false;
        *(char **)field = normal_text(row->type, text);
        return true;
    }
    switch (row->type) {
    case PFX_O_COUNT:
    case PFX_O_NUMBER:
        if (!plain)
            *ret_why = "quotes make a text of it";
        if (!plain || !parse_number(row, text, no_units, &value))
            return false;
        if (row->type == PFX_O_NUMBER)
            *(int64_t *)field = value;
        else
            *(unsigned *)field = (unsigned)value;
        return true;
    case PFX_O_BOOL:
        return parse_bool(text, plain, field, ret_why);
    case PFX_O_DURATION:
        return parse_duration(row, text, field, ret_why);
    case PFX_O_DAYS:
        return parse_number(row, text, day_units, field);
    case PFX_O_PERIOD:
        return parse_period(row, text, field);
    case PFX_O_SIZE:
        return parse_number(row, text, size_units, field);
    case PFX_O_RATE:
        return parse_rate(text, field);
    case PFX_O_ENUM:
    case PFX_O_FLAG:
        return parse_choice(row, text, field);
    case PFX_O_SET:
        return parse_set(row, text, field);
    case PFX_O_VALIDITY:
        return parse_validity(text, field);
    default:
        return false;
    }
}

static void put_amount(struct pfx_buf *out, int64_t value, const struct unit *units)
{
    const struct unit *best = &units[0];
    for (const struct unit *u = units; u->word; u++)
        if (value >= u->factor && value % u->factor == 0)
            best = u;
    pfx_buf_addf(out, "%lld%s", (long long)(value / best->factor), best->word);
}

static void put_range(const struct pfx_option *row, const char *what, const struct unit *units,
                      struct pfx_buf *out)
{
    pfx_buf_addf(out, "%s from ", what);
    bool zero = units == no_units || units == day_units; /* "0d" is a value, "0s" is "never" */
    put_amount(out, row->min > 0 || zero ? row->min : 1, units);
    pfx_buf_add_str(out, " to ");
    put_amount(out, row->max, units);
}

static void put_choices(const char *before, const char *choices, const char *last,
                        struct pfx_buf *out)
{
    pfx_buf_add_str(out, before);
    for (;;) {
        size_t n = strcspn(choices, "|");
        pfx_buf_add(out, choices, n);
        if (!choices[n])
            break;
        choices += n + 1;
        pfx_buf_add_str(out, strchr(choices, '|') ? ", " : last);
    }
}

void pfx_option_expects(const struct pfx_option *row, struct pfx_buf *out)
{
    switch (row->type) {
    case PFX_O_TEXT:
        pfx_buf_addf(out, "a text of %lld to %lld bytes", (long long)row->min,
                     (long long)row->max);
        break;
    case PFX_O_NAME:
        pfx_buf_addf(out, "a name of at most %lld letters a-z, digits and -", (long long)row->max);
        break;
    case PFX_O_ACCOUNT:
        pfx_buf_add_str(out, "the name of a user or group of this system");
        break;
    case PFX_O_PATH:
        pfx_buf_addf(out, "an absolute path of at most %lld bytes", (long long)row->max);
        break;
    case PFX_O_PIN_FILE:
        pfx_buf_add_str(out, "an absolute path, or the name of a systemd credential");
        break;
    case PFX_O_GUID:
        pfx_buf_add_str(out, "a GUID such as 00000000-0000-4000-8000-000000000000");
        break;
    case PFX_O_URL:
        pfx_buf_add_str(out, "https://host[:port][/path]");
        break;
    case PFX_O_PROXY:
        pfx_buf_add_str(out, "http://host:port");
        break;
    case PFX_O_TOKEN:
        pfx_buf_add_str(out, "a URI (RFC 7512) such as pkcs11:serial=0123456789 or "
                             "pkcs11:token=users");
        break;
    case PFX_O_COUNT:
    case PFX_O_NUMBER:
        put_range(row, "a decimal number", no_units, out);
        break;
    case PFX_O_BOOL:
        pfx_buf_add_str(out, "true or false");
        break;
    case PFX_O_DURATION:
        put_range(row, "a duration (ms, s, m, h or d)", time_units, out);
        if (row->min == 0)
            pfx_buf_add_str(out, ", or never");
        break;
    case PFX_O_DAYS:
        put_range(row, "days", day_units, out);
        break;
    case PFX_O_PERIOD:
        put_range(row, "days", day_units, out);
        pfx_buf_addf(out, ", or calendar months from 1mo to %lldmo", (long long)row->max * 12 / 365);
        break;
    case PFX_O_SIZE:
        put_range(row, "a size", size_units, out);
        break;
    case PFX_O_RATE:
        pfx_buf_add_str(out, "requests in a time, such as 100/5s");
        break;
    case PFX_O_ENUM:
    case PFX_O_WORD:
    case PFX_O_FLAG:
        put_choices("", row->choices, " or ", out);
        break;
    case PFX_O_SET:
        put_choices("a list of one or more of ", row->choices, ", ", out);
        break;
    case PFX_O_VALIDITY:
        pfx_buf_add_str(out, "1y, 2y, or 1d to 824d");
        break;
    case PFX_O_LIST:
        pfx_buf_addf(out, "a list of %lld to %lld entries, each beginning with \"- \"",
                     (long long)row->min, (long long)row->max);
        break;
    case PFX_O_NEVER:
        break;
    }
}
