#include "clayout.h"
