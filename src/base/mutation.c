/* SPDX-License-Identifier: MIT */
#include "base/mutation.h"

enum cv_mutation cv_mutation;
bool cv_naps = true;
