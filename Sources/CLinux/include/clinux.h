#ifndef CLINUX_H
#define CLINUX_H
#include <numa.h>
#endif
