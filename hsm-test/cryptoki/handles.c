#include "hsm-test/cryptoki/handles.h"

#include <pthread.h>
#include <stddef.h>

#define SEEN 512
#define FORGOTTEN 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    CK_ULONG seen[SEEN];
    size_t n_seen; /* ever */
    CK_ULONG forgotten[FORGOTTEN];
    size_t n_forgotten;
} sets[2];

void tt_learn(enum tt_handles what, CK_ULONG handle)
{
    pthread_mutex_lock(&lock);
    bool there = false;
    for (size_t i = 0; i < SEEN && i < sets[what].n_seen; i++)
        there = there || sets[what].seen[i] == handle;
    if (!there)
        sets[what].seen[sets[what].n_seen++ % SEEN] = handle;
    pthread_mutex_unlock(&lock);
}

void tt_forget(enum tt_handles what, CK_ULONG handle)
{
    pthread_mutex_lock(&lock);
    sets[what].forgotten[sets[what].n_forgotten++ % FORGOTTEN] = handle;
    pthread_mutex_unlock(&lock);
}

bool tt_forgotten(enum tt_handles what, CK_ULONG handle)
{
    bool there = false;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FORGOTTEN && i < sets[what].n_forgotten; i++)
        there = there || sets[what].forgotten[i] == handle;
    pthread_mutex_unlock(&lock);
    return there;
}

static CK_ULONG ulong_of(CK_FUNCTION_LIST *p11, CK_SESSION_HANDLE session, CK_ULONG object,
                         CK_ATTRIBUTE_TYPE type)
{
    CK_ULONG value = CK_UNAVAILABLE_INFORMATION;
    CK_ATTRIBUTE at = {type, &value, sizeof value};
    if (p11->C_GetAttributeValue(session, object, &at, 1) != CKR_OK)
        value = CK_UNAVAILABLE_INFORMATION;
    return value;
}

static int likeness(CK_FUNCTION_LIST *p11, enum tt_handles what, CK_SESSION_HANDLE session,
                    CK_ULONG handle, CK_ULONG other)
{
    CK_SESSION_INFO info, mine;
    if (other == handle || tt_forgotten(what, other))
        return 0;
    if (what == TT_SESSIONS) {
        if (p11->C_GetSessionInfo(other, &info) != CKR_OK)
            return 0;
        return p11->C_GetSessionInfo(handle, &mine) == CKR_OK && mine.slotID == info.slotID ? 2 : 1;
    }
    CK_ULONG cls = ulong_of(p11, session, other, CKA_CLASS);
    if (cls == CK_UNAVAILABLE_INFORMATION)
        return 0;
    if (cls != ulong_of(p11, session, handle, CKA_CLASS))
        return 1;
    return ulong_of(p11, session, other, CKA_KEY_TYPE) ==
                   ulong_of(p11, session, handle, CKA_KEY_TYPE)
               ? 3
               : 2;
}

CK_ULONG tt_other(CK_FUNCTION_LIST *p11, enum tt_handles what, CK_SESSION_HANDLE session,
                  CK_ULONG handle)
{
    CK_ULONG best = handle;
    int best_likeness = 0;
    pthread_mutex_lock(&lock);
    size_t n = sets[what].n_seen;
    pthread_mutex_unlock(&lock);
    for (size_t i = n; i > 0 && i + SEEN > n; i--) { /* the newest first */
        pthread_mutex_lock(&lock);
        CK_ULONG other = sets[what].seen[(i - 1) % SEEN];
        pthread_mutex_unlock(&lock);
        int is = likeness(p11, what, session, handle, other);
        if (is > best_likeness) {
            best = other;
            best_likeness = is;
        }
    }
    return best;
}
