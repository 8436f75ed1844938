// SPDX-License-Identifier: Apache-2.0
#include "trainer/plan_dry_run.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "kernels/error.h"
#include "parallel/bucket_plan.h"
#include "trainer/cost_model.h"
#include "trainer/model.h"
#include "trainer/model_placement.h"
#include "trainer/model_spec.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

using Problems = std::vector<std::string>;

bool overlap(const Slice& a, const Slice& b) {
  for (size_t d = 0; d < a.shape.size(); ++d) {
    if (a.offset[d] + a.shape[d] <= b.offset[d] || b.offset[d] + b.shape[d] <= a.offset[d]) return false;
  }
  return true;
}

// Slices that differ, and how many ranks hold each.
using SliceCount = std::map<std::pair<Shape, Shape>, int64_t>;

SliceCount slices_of(const PlacedTensor& tensor, const MeshShape& mesh) {
  SliceCount count;
  for (int64_t rank = 0; rank < mesh.world(); ++rank) {
    Slice slice = slice_of(tensor.shape, tensor.placement, mesh, rank);
    ++count[{std::move(slice.offset), std::move(slice.shape)}];
  }
  return count;
}

std::string check_cover(const PlacedTensor& tensor, const MeshShape& mesh) {
  const SliceCount count = slices_of(tensor, mesh);
  int64_t held = 0;
  const int64_t copies = mesh.extent(replicate_axes(tensor.placement, mesh));
  std::vector<Slice> slices;
  for (const auto& [slice, ranks] : count) {
    const Slice s{slice.first, slice.second};
    held += count_of(s.shape);
    for (size_t d = 0; d < s.shape.size(); ++d) {
      if (s.offset[d] < 0 || s.shape[d] < 0 || s.offset[d] + s.shape[d] > tensor.shape[d])
        return fmt::format("{}: a slice of {} at {} is not inside {}", tensor.name, to_string(s.shape),
                           to_string(s.offset), to_string(tensor.shape));
    }
    if (count_of(s.shape) > 0 && ranks != copies)
      return fmt::format("{}: {} ranks hold the slice at {}, the placement says {}", tensor.name, ranks,
                         to_string(s.offset), copies);
    if (count_of(s.shape) > 0) slices.push_back(s);
  }
  for (size_t i = 0; i < slices.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (overlap(slices[i], slices[j]))
        return fmt::format("{}: slices at {} and {} overlap", tensor.name, to_string(slices[i].offset),
                           to_string(slices[j].offset));
    }
  }
  if (held == count_of(tensor.shape)) return {};
  return fmt::format("{}: the ranks hold {} of {} elements", tensor.name, held, count_of(tensor.shape));
}

std::string check_gradient(const PlacedTensor& tensor, const MeshShape& mesh) {
  if (tensor.placement.frozen) return {};
  for (const Axis axis : {Axis::dp, Axis::ring, Axis::uly}) {
    const bool alone = mesh.extent(axis) == 1 || tensor.placement.shard.contains(axis);
    if (!alone && !tensor.placement.partial.contains(axis))
      return fmt::format("{}: its gradient is not summed over {}", tensor.name, to_string(axis));
  }
  return {};
}

// Rows of a projection on every rank: `width` for each head of its tensor rank.
std::string check_rows(const PlacedTensor& tensor, const std::vector<int64_t>& heads, int64_t width,
                       const MeshShape& mesh) {
  for (int64_t rank = 0; rank < mesh.world(); ++rank) {
    const int64_t expected = width * heads[static_cast<size_t>(mesh.index(rank, Axis::tp))];
    const int64_t rows = slice_of(tensor.shape, tensor.placement, mesh, rank).shape.front();
    if (rows != expected)
      return fmt::format("{}: rank {} holds {} rows, its heads need {}", tensor.name, rank, rows, expected);
  }
  return {};
}

MeshShape mesh_of(const RunLayout& l) {
  return {l.pipeline, l.data, l.ring, l.ulysses, l.tensor, 1, l.zero_group, l.key_replicas};
}

Config with_vocabulary(const Config& config, const RunLayout& layout, int64_t vocab) {
  Config known = config;
  known.model.vocab = std::max<int64_t>({1, vocab, layout.tensor});
  return known;
}

// The shards of every bucket over the ranks of a ZeRO group: ranges that follow each other to its end.
void check_shards(const Config& config, const MeshShape& mesh, LanguageModel& model, Problems& problems) {
  const int64_t ranks = mesh.extent(Axis::zero);
  int64_t end = model.parameters().units().back().end;
  for (const GradientBucket& bucket : plan_buckets(model.parameters(), model.placements(), mesh,
                                                   config.parallel.bucket_bytes, config.parallel.zero >= 2)) {
    if (bucket.range.end > end) problems.push_back("buckets of gradients overlap");
    int64_t at = bucket.range.begin;
    for (int64_t i = 0; i < ranks; ++i) {
      const SlabRange shard = shard_of(bucket.range, i, ranks);
      if (shard.begin != at || shard.end < at)
        problems.push_back(
            fmt::format("shard {} of a bucket begins at {}, the one before ends at {}", i, shard.begin, at));
      at = shard.end;
    }
    if (at != bucket.range.end)
      problems.push_back(fmt::format("the shards of a bucket end at {} of {}", at, bucket.range.end));
    end = bucket.range.begin;
  }
}

// What a rank of the tensor axis registers is what its placements say.
void check_registered(LanguageModel& model, const MeshShape& mesh, int64_t rank, Problems& problems) {
  size_t i = 0;
  for (const Parameter& p : model.parameters().parameters()) {
    const Slice slice = slice_of(p.slice.global, model.placements()[i++], mesh, rank);
    if (slice.offset != p.slice.first || slice.shape != p.slice.shape)
      problems.push_back(fmt::format("rank {}: {} is registered elsewhere than it is placed", rank, p.name));
  }
}

void check_sequence(const SequenceLayout& layout, Problems& problems) {
  int64_t held = 0;
  for (int64_t owner = 0; owner < layout.owners(); ++owner) {
    held += layout.count(owner);
    if (layout.count(owner) == 0) problems.push_back(fmt::format("context rank {} holds no position", owner));
  }
  if (held != layout.tokens())
    problems.push_back(fmt::format("the context ranks hold {} of {} positions", held, layout.tokens()));
}

}  // namespace

std::vector<PlacedTensor> placed_tensors(const Config& config, const RunLayout& layout, int64_t vocab) {
  LanguageModel model(model_spec(with_vocabulary(config, layout, vocab), 0),
                      model_sharding(config, mesh_of(layout), 0));
  std::vector<PlacedTensor> tensors;
  for (const Parameter& p : model.parameters().parameters())
    tensors.push_back({p.name, p.slice.global, model.placements()[tensors.size()]});
  return tensors;
}

std::vector<std::string> check_placements(const std::vector<PlacedTensor>& tensors, const MeshShape& mesh) {
  Problems problems;
  for (const PlacedTensor& tensor : tensors) {
    try {
      for (std::string problem : {check_cover(tensor, mesh), check_gradient(tensor, mesh)}) {
        if (!problem.empty()) problems.push_back(std::move(problem));
      }
    } catch (const Error& error) {
      problems.push_back(tensor.name + ": " + error.what());
    }
  }
  return problems;
}

std::vector<std::string> check_heads(const std::vector<PlacedTensor>& tensors, const Config& config,
                                     const MeshShape& mesh) {
  const TensorHeads heads = tensor_heads(config.model.heads, config.model.kv_heads, mesh.extent(Axis::tp));
  Problems problems;
  for (const PlacedTensor& tensor : tensors) {
    const bool query = tensor.name.ends_with(".q.weight");
    if (!query && !tensor.name.ends_with(".k.weight") && !tensor.name.ends_with(".v.weight")) continue;
    std::string problem;
    try {
      problem = check_rows(tensor, query ? heads.query : heads.key, config.model.head_width, mesh);
    } catch (const Error& error) {
      problem = tensor.name + ": " + error.what();
    }
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  return problems;
}

DryRun dry_run(const Config& config, const RunLayout& layout, int64_t vocab) {
  const MeshShape mesh = mesh_of(layout);
  const auto tensors = placed_tensors(config, layout, vocab);
  DryRun run;
  run.ranks = mesh.world();
  run.tensors = static_cast<int64_t>(tensors.size());
  run.slices = run.ranks * run.tensors;
  run.problems = check_placements(tensors, mesh);
  const Problems heads = check_heads(tensors, config, mesh);
  run.problems.insert(run.problems.end(), heads.begin(), heads.end());
  for (int64_t rank = 0; rank < layout.tensor; ++rank) {  // one of each kind
    LanguageModel model(model_spec(with_vocabulary(config, layout, vocab), 0), model_sharding(config, mesh, rank));
    check_registered(model, mesh, rank, run.problems);
    if (config.parallel.zero > 0) check_shards(config, mesh, model, run.problems);
  }
  check_sequence(sequence_layout(config, layout), run.problems);
  return run;
}

}  // namespace farsight
