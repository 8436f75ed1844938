// SPDX-License-Identifier: Apache-2.0
// The attention problems of ring_case.h solved by context_attention in any layout. Shared by the in-process and the MPI
// tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "parallel/comm.h"
#include "parallel/context_attention.h"
#include "tests/parallel/ring_case.h"

namespace farsight::testing {

struct ContextLayout {
  SequenceOrder order = SequenceOrder::contiguous;
  int64_t ring = 1, uly = 1;
  ContextScheme scheme = ContextScheme::ring;
  int64_t gather_heads = 0;
  bool recompute = false;
  bool pieces = true;  // the sequence is dealt to the ring and cut over ulysses; otherwise dealt to all ranks

  int ranks() const { return static_cast<int>(ring * uly); }
  std::string name() const;  // "zigzag ring 2 x 4 ulysses"
};

// The communicators of one rank, in a world of layout.ranks(). Collective.
class ContextWorld {
 public:
  ContextWorld(Communicator& world, const ContextLayout& layout);
  ContextGroups groups() { return {*ring_, *uly_, world_, *self_}; }

 private:
  Communicator& world_;
  std::unique_ptr<Communicator> ring_, uly_, self_;
};

// As run_ring. numbers.lse is left alone.
void run_context(Communicator& world, const RingCase& c, const ContextLayout& layout, RingNumbers& numbers);

// In-process ranks; the result has no lse.
RingNumbers solve_context(const RingCase& c, const ContextLayout& layout, const CommOptions& options = {});

}  // namespace farsight::testing
