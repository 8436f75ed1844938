// SPDX-License-Identifier: Apache-2.0
// `farsight eval RUN|CHECKPOINT [--data=F] [--split=valid]`
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

// Loss, perplexity and bits per byte over a whole split: every token but the first of a file counts once. Starts MPI;
// all ranks form one ring. Throws Error.
int run_eval(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
