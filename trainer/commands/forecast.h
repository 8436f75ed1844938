// SPDX-License-Identifier: Apache-2.0
// farsight forecast, and what farsight eval does with a forecaster.
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

struct RunReference;

int run_forecast(const CommandArguments& arguments, std::ostream& out, std::ostream& err);
int run_eval_forecast(const CommandArguments& arguments, const RunReference& run, std::ostream& out, std::ostream& err);

}  // namespace farsight
