#ifndef CDPDK_H
#define CDPDK_H
#include <rte_config.h>
#include <stddef.h>
#include <rte_eal.h>
#endif
