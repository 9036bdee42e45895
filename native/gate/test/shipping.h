/* Two gates that ship, their log and its mirror: what the tests of shipping and the bench have in common. */
#ifndef FT_GATE_TEST_SHIPPING_H
#define FT_GATE_TEST_SHIPPING_H

#include <netinet/in.h>

#include "gate/test/world.h"
#include "log/file.h"

#define SHIPPING_PORT 5000
#define SHIPPING_LANES 4u

extern struct world_gate a, b; /* on host A with the service, on host B with the mirror */
extern int listener; /* of the service; -1: none */
extern char shipping_folder[], log_path[64], mirror_path[64], frames_path[64];
extern struct log_file log_file, mirror;
extern unsigned shipping_segments; /* of the next log */
extern unsigned long long shipping_frames_bytes; /* of the next mirror */
extern unsigned long long epoch;

/* After world_open(). */
bool shipping_open(void);
void shipping_close(void);

struct sockaddr_in service_address(const char *ip);
/* Makes the container's end ready and listens. */
int dress(void);
/* Ends a connection without a word. */
void drop(int *fd);

bool start_mirror(const char *options);
bool start_source(const char *options);
/* An imaginary, instant checkpoint. */
bool checkpoint(bool trim);
/* Both gates, a base checkpoint, mode log. */
bool start_shipping(const char *options);
bool map_mirror(void);
/* The gates, the log and its mirror are gone. */
void end_shipping(void);

#endif
