// libFuzzer's driver (LLVM's FuzzerInterface): a program of its own that calls it has any `main` it likes.
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));
