#include "recorder/real.h"

#include <dlfcn.h>

struct ft_real ft_real_functions;

void ft_resolve(void)
{
	struct ft_real *r = &ft_real_functions;
#define FT_REAL_RESOLVE(type, name, parameters) *(void **)&r->name = dlsym(RTLD_NEXT, #name);
	FT_REAL_FUNCTIONS(FT_REAL_RESOLVE)
#undef FT_REAL_RESOLVE
#ifdef __x86_64__
	static const char version[] = "GLIBC_2.3.2";
#else
	static const char version[] = "GLIBC_2.17";
#endif
	*(void **)&r->pthread_cond_wait = dlvsym(RTLD_NEXT, "pthread_cond_wait", version);
	*(void **)&r->pthread_cond_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", version);
	*(void **)&r->pthread_cond_signal = dlvsym(RTLD_NEXT, "pthread_cond_signal", version);
	*(void **)&r->pthread_cond_broadcast = dlvsym(RTLD_NEXT, "pthread_cond_broadcast", version);
	*(void **)&r->pthread_cond_clockwait = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
	r->ready = true;
}
