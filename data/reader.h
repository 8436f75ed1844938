// SPDX-License-Identifier: Apache-2.0
// Streams the batches of one data rank: a prefetch thread fills a ring of steps, the training loop takes them in order,
// so timing cannot change the data. Knows no MPI: it is told its place in the batch and its positions in the sequence.
//
//   BatchStream stream(corpus, plan);
//   while (const StepBatch* step = stream.next()) {
//     int64_t targets = step->valid_labels;      // all-reduce over data ranks and context ranks gives N of the step
//     for (const MicroBatch& micro : step->micro) ...
//     plan.first_sample += plan.global_batch;    // = samples_consumed, the only state
//   }
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/corpus.h"
#include "data/sample_order.h"
#include "data/sample_source.h"

namespace farsight {

// Where this rank stands. A step takes the sample numbers g in [g0, g0 + global_batch); micro-step m of data rank d
// holds g = g0 + (m * data_ranks + data_rank) * micro_batch + j, j in [0, micro_batch).
struct StreamPlan {
  uint64_t seed = 0;
  Shuffle shuffle = Shuffle::samples;
  int64_t first_sample = 0;  // g0 of the first step = samples consumed so far
  int64_t sample_limit = 0;  // > 0: the stream ends before this g (evaluation: corpus.samples()); 0: endless
  int64_t global_batch = 1;  // samples of a step over all data ranks; a multiple of data_ranks * micro_batch
  int64_t data_ranks = 1, data_rank = 0;
  int64_t micro_batch = 1;
  std::vector<PositionRange> ranges = {};  // of tokens: this rank's positions of every sample; empty: all of [0, T)
  int prefetch = 4;                        // steps read ahead
};

struct StepBatch {
  int64_t first_sample = 0;  // g0 of this step
  std::vector<MicroBatch> micro;
  int64_t valid_labels = 0;   // sum over micro: this rank's part of N
  double data_wait_ms = 0.0;  // how long next() had to wait for this step
};

class BatchStream {
 public:
  // Starts the prefetch thread. Throws Error{config} when global_batch is not a multiple of data_ranks * micro_batch or
  // a number is out of range. The source, or corpus, must not be used by others while the stream lives.
  BatchStream(std::unique_ptr<SampleSource> source, StreamPlan plan);
  BatchStream(std::shared_ptr<Corpus> corpus, StreamPlan plan);
  ~BatchStream();  // stops the thread; never blocks on data that nobody takes
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  // The next step, or nullptr at the end. Its tensors are valid until the following call of next().
  // Throws what reading this step threw (Error{data}, Error{io}) with the sample number in the message, at exactly this
  // step; every later call throws it again. One consumer thread.
  const StepBatch* next();

  int64_t micro_steps() const;  // global_batch / (data_ranks * micro_batch)

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace farsight
