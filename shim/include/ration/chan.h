/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CHAN_H
#define RATION_CHAN_H
/*
 * Channels and select.  The semantics are those of Go: https://go.dev/ref/spec#Channel_types, #Send_statements, #Receive_operator,
 * #Select_statements and #Close.
 *
 *   typedef RATION_CHAN(int) int_chan;              a channel whose element type the compiler checks
 *
 *   static void squares(void *arg) {
 *     int_chan c = {arg};
 *     for (int i = 0; i < 10; i++) RATION_SEND(c, i * i);
 *     RATION_CLOSE(c);
 *   }
 *
 *   int_chan c = RATION_CHAN_NEW(int_chan, 4);
 *   ration_go(squares, c.chan);
 *   for (int v; RATION_RECV(c, &v);) printf("%d\n", v);
 *   ration_chan_unref(c.chan);
 *
 * There are two layers: functions on struct ration_chan, which copy elements of a size, and macros on top of them that know the type.
 *
 * All functions may be called in any G and any thread, by as many at once as like; a thread that is no light G blocks as a whole.  None is
 * async-signal-safe.  Whoever is inside of a call must own a reference to the channel, or know someone who keeps one.  Those wait that say "blocks"
 * or "waits".  "Fatal": the program ends, where Go panics.
 *
 * Those who wait at a channel are served in the order in which they came.  What was done before a send is seen after the receive of that
 * element; what was done before a receive is seen after the send that it made room for; what was done before close is seen after a receive
 * that says so (https://go.dev/ref/mem#chan).
 *
 * A null channel is Go's nil channel: send and receive block for ever, it is never ready in a select.
 */
#include <stdbool.h>
#include <stddef.h>
#include <ration/g.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ration_chan;

/*
 * A new channel for elements of elem_size bytes (0: only the event counts) with room for `capacity` of them; 0: unbuffered, sender and
 * receiver meet.  The caller gets the one reference.  NULL: errno is ENOMEM, or EINVAL where elem_size or capacity is over UINT32_MAX or both
 * together over PTRDIFF_MAX.
 */
RATION_API struct ration_chan *ration_chan_new(size_t elem_size, size_t capacity);

/* One more reference; returns c.  Null: nothing. */
RATION_API struct ration_chan *ration_chan_ref(struct ration_chan *c);

/* One less; the last frees the channel with what is in its buffer.  It need not be closed, but nobody may wait at it: that is fatal.  Null: nothing. */
RATION_API void ration_chan_unref(struct ration_chan *c);

/*
 * Sends the element at v (may be null if elements have no size).  Blocks until a receiver takes it or there is room in the buffer; on a null channel
 * for ever.  On a closed channel, also one that is closed meanwhile: fatal, "send on closed channel".
 */
RATION_API void ration_chan_send(struct ration_chan *c, const void *v);

/*
 * Receives into v (null: throws the element away).  Blocks until there is an element; on a null channel for ever.  True: it came from a
 * sender.  False: the channel is closed and drained; *v is zeroed.
 */
RATION_API bool ration_chan_recv(struct ration_chan *c, void *v);

/* The same without blocking, as a select with a default; a send on a closed channel is fatal here as well.  0: done.  -EAGAIN: it would block.  recv: -EPIPE: closed and drained; *v is zeroed. */
RATION_API int ration_chan_try_send(struct ration_chan *c, const void *v);
RATION_API int ration_chan_try_recv(struct ration_chan *c, void *v);

/*
 * The same, but they give up after `timeout`; RATION_FOREVER: never, 0 or less: at once.  0: done.  -ETIMEDOUT: nothing was sent or
 * received.  recv: -EPIPE: closed and drained; *v is zeroed.
 */
RATION_API int ration_chan_send_timeout(struct ration_chan *c, const void *v, ration_ns timeout);
RATION_API int ration_chan_recv_timeout(struct ration_chan *c, void *v, ration_ns timeout);

/*
 * Closes c: there will be no more elements.  Those that are in the buffer can still be received.  Wakes all who wait.  Does not block.  Fatal:
 * "close of closed channel", "close of nil channel".
 */
RATION_API void ration_chan_close(struct ration_chan *c);

/* Elements in the buffer right now, and its size.  Null: 0.  Go's len and cap. */
RATION_API size_t ration_chan_len(const struct ration_chan *c);
RATION_API size_t ration_chan_cap(const struct ration_chan *c);

/* --- select --- */

enum ration_case_op { RATION_CASE_OP_SEND, RATION_CASE_OP_RECV };

/* One communication of a select.  Made by ration_case_send and ration_case_recv, or the macros below. */
struct ration_case {
  struct ration_chan *chan; /* null: never ready */
  void *elem;               /* send: is read only.  receive: null throws the element away */
  enum ration_case_op op;
  bool ok; /* out, if this receive was chosen: what ration_chan_recv would have returned */
};

static inline struct ration_case ration_case_send(struct ration_chan *c, const void *v) {
  struct ration_case k = {c, (void *)v, RATION_CASE_OP_SEND, false};
  return k;
}
static inline struct ration_case ration_case_recv(struct ration_chan *c, void *v) {
  struct ration_case k = {c, v, RATION_CASE_OP_RECV, false};
  return k;
}

#define RATION_CASES_MAX 65536

/*
 * Waits until one of n communications can proceed, does it, and returns its index.  If several can, one of them is picked at random.  A
 * channel may occur more than once, also for both directions.  A send case on a closed channel is ready: fatal, "send on closed channel".
 *
 * timeout   0 or less: a select with default: -EAGAIN if none is ready.
 *           RATION_FOREVER: no limit.  With no case, or null channels only: blocks for ever.
 *           else: -ETIMEDOUT when so much time has passed and none was done.
 *
 * -EINVAL: n is over RATION_CASES_MAX.  -ENOMEM: only with more than 16 cases, which need memory.
 */
RATION_API int ration_select(struct ration_case *cases, size_t n, ration_ns timeout);

#ifdef __cplusplus
}
#endif

/* --- with types --- */

/*
 * The type of a channel with elements of type T.  Each use makes a new type, so: typedef RATION_CHAN(T) t_chan;  It is as
 * large as a pointer and passed by value.  c.chan is the channel for the functions above; {NULL} is the nil channel.
 */
#define RATION_CHAN(T)        \
  union {                     \
    struct ration_chan *chan; \
    __typeof__(T) *elem_type; \
  }
#define RATION_ELEM_(c) __typeof__(*(c).elem_type)

/*
 * RATION_CHAN_NEW(t_chan, capacity)       .chan is null on failure, as ration_chan_new
 * RATION_SEND(c, v)                       v: a value.  The others with its arguments do what the function of that name does
 * RATION_RECV(c, p)                       p: T *, or NULL
 * RATION_CASE_SEND(c, v)                  C only: the copy of v lives until the end of the block
 * RATION_CASE_SEND_FROM(c, p)             p: const T *
 * RATION_CASE_RECV(c, p)
 *
 * Each evaluates its arguments once.  v is taken for a T by these rules: same type; pointers that differ in qualifiers of T only; numbers, but a
 * floating-point one is no integer.  Anything else does not compile.
 */
#ifndef __cplusplus

#define RATION_CHAN_NEW(type, capacity) ((type){ration_chan_new(sizeof(RATION_ELEM_(*(type *)0)), capacity)})

/* __builtin_classify_type: 1 to 4 are integers, 8 is floating point.  ?: adds qualifiers to pointers, and void * is what it makes of a mismatch. */
#define RATION_INTEGER_(x) (__builtin_classify_type(x) <= 4)
#define RATION_FITS_(c, v)                                                                                      \
  ((RATION_INTEGER_(v) && (RATION_INTEGER_(*(c).elem_type) || __builtin_classify_type(*(c).elem_type) == 8)) || \
   (__builtin_classify_type(v) == 8 && __builtin_classify_type(*(c).elem_type) == 8) ||                         \
   (__builtin_classify_type(v) == __builtin_classify_type(*(c).elem_type) && !RATION_INTEGER_(v) &&             \
    _Generic(1 ? (v) : *(c).elem_type, RATION_ELEM_(c) : 1, default : 0)))
#define RATION_CHECK_(what, text)          \
  ((void)sizeof(struct {                   \
    _Static_assert(what, "ration: " text); \
    char unused;                           \
  }))
#define RATION_CHECK_VALUE_(c, v) RATION_CHECK_(RATION_FITS_(c, v), "the value is not of the channel's element type")
#define RATION_CHECK_POINTER_(c, p)                                                        \
  RATION_CHECK_((_Generic(1 ? (p) : (c).elem_type, RATION_ELEM_(c) * : 1, default : 0)) && \
                    __builtin_classify_type(p) == __builtin_classify_type((c).elem_type),  \
                "the pointer is not to the channel's element type")
#define RATION_CHECK_CONST_(c, p)                                                                                       \
  RATION_CHECK_((_Generic(1 ? (p) : (c).elem_type, RATION_ELEM_(c) * : 1, const RATION_ELEM_(c) * : 1, default : 0)) && \
                    __builtin_classify_type(p) == __builtin_classify_type((c).elem_type),                               \
                "the pointer is not to the channel's element type")
#define RATION_VALUE_(c, v) ((RATION_ELEM_(c)[1]){v})

#define RATION_SEND(c, v) (RATION_CHECK_VALUE_(c, v), ration_chan_send((c).chan, RATION_VALUE_(c, v)))
#define RATION_TRY_SEND(c, v) (RATION_CHECK_VALUE_(c, v), ration_chan_try_send((c).chan, RATION_VALUE_(c, v)))
#define RATION_SEND_TIMEOUT(c, v, timeout) (RATION_CHECK_VALUE_(c, v), ration_chan_send_timeout((c).chan, RATION_VALUE_(c, v), timeout))
#define RATION_RECV(c, p) (RATION_CHECK_POINTER_(c, p), ration_chan_recv((c).chan, p))
#define RATION_TRY_RECV(c, p) (RATION_CHECK_POINTER_(c, p), ration_chan_try_recv((c).chan, p))
#define RATION_RECV_TIMEOUT(c, p, timeout) (RATION_CHECK_POINTER_(c, p), ration_chan_recv_timeout((c).chan, p, timeout))
#define RATION_CASE_SEND(c, v) (RATION_CHECK_VALUE_(c, v), ration_case_send((c).chan, RATION_VALUE_(c, v)))
#define RATION_CASE_SEND_FROM(c, p) (RATION_CHECK_CONST_(c, p), ration_case_send((c).chan, p))
#define RATION_CASE_RECV(c, p) (RATION_CHECK_POINTER_(c, p), ration_case_recv((c).chan, p))

#else /* C++ checks the types by itself */

#define RATION_CHAN_NEW(type, capacity) (type{ration_chan_new(sizeof(*((type *)0)->elem_type), capacity)})
/* call: with a copy of v in ration_value_ */
#define RATION_WITH_VALUE_(c, v, call)                       \
  (__extension__({                                           \
    auto ration_chan_ = (c);                                 \
    __typeof__(*ration_chan_.elem_type) ration_value_ = (v); \
    call;                                                    \
  }))
#define RATION_POINTER_(c, p) (static_cast<__typeof__((c).elem_type)>(p))

#define RATION_SEND(c, v) RATION_WITH_VALUE_(c, v, ration_chan_send(ration_chan_.chan, &ration_value_))
#define RATION_TRY_SEND(c, v) RATION_WITH_VALUE_(c, v, ration_chan_try_send(ration_chan_.chan, &ration_value_))
#define RATION_SEND_TIMEOUT(c, v, timeout) RATION_WITH_VALUE_(c, v, ration_chan_send_timeout(ration_chan_.chan, &ration_value_, timeout))
#define RATION_RECV(c, p) ration_chan_recv((c).chan, RATION_POINTER_(c, p))
#define RATION_TRY_RECV(c, p) ration_chan_try_recv((c).chan, RATION_POINTER_(c, p))
#define RATION_RECV_TIMEOUT(c, p, timeout) ration_chan_recv_timeout((c).chan, RATION_POINTER_(c, p), timeout)
#define RATION_CASE_SEND_FROM(c, p) ration_case_send((c).chan, static_cast<const __typeof__(*(c).elem_type) *>(p))
#define RATION_CASE_RECV(c, p) ration_case_recv((c).chan, RATION_POINTER_(c, p))

#endif

#define RATION_CLOSE(c) ration_chan_close((c).chan)

#endif
