// SPDX-License-Identifier: Apache-2.0
// The large all-reduce over messages, as an operation that advances in steps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/comm.h"
#include "parallel/rank_engine.h"
#include "parallel/transport.h"

namespace farsight {

// Reduces `data` over the group in pieces of `piece` elements. In each piece rank r owns the r-th of n balanced chunks:
// first everyone sends every owner its contribution, then every owner sends the result to everyone.
template <typename T>
class LargeAllReduce final : public Operation {
 public:
  LargeAllReduce(Transport& transport, std::span<T> data, ReduceOp op, int tag, int64_t piece_bytes);
  bool advance() override;

 private:
  enum class Stage : uint8_t { start, contributions, results };
  struct Chunk {
    int64_t begin, count;  // in data_
  };
  Chunk chunk(int owner) const;
  void start_contributions();
  void combine();
  void start_results();
  void post_send(const Chunk& chunk, int to);
  bool messages_finished();

  Transport& transport_;
  std::span<T> data_;
  ReduceOp op_;
  int tag_;
  int64_t piece_;      // elements
  int64_t begin_ = 0;  // of the current piece
  Stage stage_ = Stage::start;
  Tensor staging_;  // n - 1 contributions to the own chunk
  std::vector<const T*> contributions_;
  std::vector<MessagePtr> messages_;
};

}  // namespace farsight
