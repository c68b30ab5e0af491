#include <cdeflate.h>
