// SPDX-License-Identifier: Apache-2.0
// What every rank knows about the sequences of one micro-batch: their order over the owners of the context axis, the
// document of every position, and which samples they are. Positions and documents of other owners are computed from it
// and never sent.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/attention/block.h"
#include "kernels/random.h"
#include "kernels/tensor.h"
#include "parallel/sequence_order.h"

namespace farsight {

// Row description of one owner, n = layout.count(owner). All [B, n] i32, on the host unless said otherwise.
struct SequenceRows {
  Tensor positions;               // global index in the packed row
  Tensor documents;               // document ids; undefined when the batch has none
  std::vector<PositionRun> runs;  // of the positions
  PackedDocuments packed;         // device_rows() only: where the owner's positions are one run
  Tensor relative;  // position minus the start of its document (the position itself without documents); rows() only
};

struct SequenceBatch {
  int64_t batch = 0;              // B rows
  SequenceLayout layout;          // T tokens over the owners
  Tensor documents;               // [B, T] i32 ids in position order, equal within a document; undefined = one document
  std::vector<uint64_t> samples;  // [B] global sample numbers: keys of the random draws

  int64_t tokens() const { return layout.tokens(); }
  SequenceRows rows(int64_t owner) const;
  // Without `relative`, whose computation passes over all T positions: for keys on their way round the ring.
  SequenceRows key_rows(int64_t owner) const;
  // key_rows where this thread computes; on a device they are uploaded once and kept with this batch and its copies.
  SequenceRows device_rows(int64_t owner) const;
  // site_key(seed, step, sample, layer, site) of each row.
  std::vector<uint64_t> keys(uint64_t seed, uint64_t step, uint64_t layer, Site site) const;
  // Throws Error{internal} for inconsistent sizes.
  void check() const;

 private:
  struct Uploaded;
  std::shared_ptr<Uploaded> uploaded_ = make_uploaded();
  static std::shared_ptr<Uploaded> make_uploaded();
};

}  // namespace farsight
