/*
 * For the counted build of fuzz_state: functions that are named in the same files as the parsers,
 * and that no parser calls. Without their names the token's and the log's whole code would have to
 * be compiled once more.
 */
#define ABSENT(name)                                                                               \
    void name(void);                                                                               \
    void name(void)                                                                                \
    {                                                                                              \
        __builtin_trap();                                                                          \
    }

ABSENT(pfx_ceiling_give_back)
ABSENT(pfx_ceiling_take)
ABSENT(pfx_hsm_needs)
ABSENT(pfx_hsm_path)
ABSENT(pfx_hsmlog_intent)
ABSENT(pfx_hsmlog_result)
ABSENT(pfx_hsmlog_takes)
ABSENT(pfx_key_mac)
ABSENT(pfx_token_facts)
