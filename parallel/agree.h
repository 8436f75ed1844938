// SPDX-License-Identifier: Apache-2.0
// Decisions that all ranks take together. Nothing that only one rank sees (a signal, a full disk, a bad file) may lead
// to a collective or an exit before it has become global here.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <span>

#include "parallel/comm.h"

namespace farsight {

// Element-wise maximum over the ranks, in place: one message round per step for all flags. Encode "any rank" as 1 / 0
// and "all ranks" as the negated flag.
void agree(Communicator& world, std::span<int64_t> flags);

// Collective. Every rank passes its error or null. If any is set, throws on all ranks an Error of the kind and message
// of the lowest rank that has one, prefixed "rank R: " when there are several ranks.
void agree_on_error(Communicator& world, const std::exception_ptr& error);

// Runs body on every rank and agrees on its error: for phases in which the ranks do not communicate (reading files,
// checking the configuration).
void together(Communicator& world, const std::function<void()>& body);

}  // namespace farsight
