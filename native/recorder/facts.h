/* Small facts that the kernel tells and the application cannot compute: by value, not asked again in a replay. */
#ifndef FT_RECORDER_FACTS_H
#define FT_RECORDER_FACTS_H
#include "recorder/real.h"

#pragma GCC visibility push(hidden)

/* `real` asks the kernel; `out`, of `bytes`, is what it fills in when its result is not negative. */
long ft_fact(uint8_t kind, uint32_t object, long (*real)(void *), void *arguments, void *out, size_t bytes);
long ft_random(void *out, size_t bytes, unsigned flags); /* as getrandom(), whoever calls */
/* For a function's own body: its caller is recorded. */
#define FT_CALLER_IS_RECORDED (ft_me != NULL && !ft_is_outsider(__builtin_return_address(0)))

#pragma GCC visibility pop
#endif
