#include "cipsecmb.h"
