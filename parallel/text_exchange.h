// SPDX-License-Identifier: Apache-2.0
// Texts that ranks tell each other. Each function is collective over the communicator.
#pragma once

#include <string>
#include <vector>

#include "parallel/comm.h"

namespace farsight {

// The text of `root`, on every rank.
std::string broadcast_text(Communicator& world, std::string text, int root);
// One text per rank, in rank order, on every rank.
std::vector<std::string> gather_texts(Communicator& world, const std::string& mine);
// Texts of all ranks on rank 0 (empty elsewhere): for what is too large to be held by everyone.
std::vector<std::string> gather_texts_at_root(Communicator& world, const std::string& mine);

}  // namespace farsight
