// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

SequenceOrder sequence_order(OrderChoice order) {
  switch (order) {
    case OrderChoice::automatic:
      return SequenceOrder::automatic;
    case OrderChoice::contiguous:
      return SequenceOrder::contiguous;
    case OrderChoice::zigzag:
      return SequenceOrder::zigzag;
    case OrderChoice::striped:
      return SequenceOrder::striped;
  }
  return SequenceOrder::contiguous;
}

ContextScheme scheme_of(ContextChoice choice) {
  switch (choice) {
    case ContextChoice::automatic:
      return ContextScheme::two_d;
    case ContextChoice::ring:
      return ContextScheme::ring;
    case ContextChoice::allgather:
      return ContextScheme::all_gather;
    case ContextChoice::ulysses:
      return ContextScheme::ulysses;
  }
  return ContextScheme::two_d;
}

}  // namespace

ParallelOptions mesh_options(const RunLayout& layout) {
  ParallelOptions options;
  options.data = layout.data;
  options.ring = layout.ring;
  options.ulysses = layout.ulysses;
  options.tensor = layout.tensor;
  options.pipeline = layout.pipeline;
  options.zero_group = layout.zero_group;
  options.key_replicas = layout.key_replicas;
  return options;
}

SequenceLayout sequence_layout(const Config& config, const RunLayout& layout) {
  return SequenceLayout(sequence_order(layout.order), config.data.sequence, layout.context(), layout.stripe,
                        layout.ulysses);
}

ModelSharding model_sharding(const Config& config, const MeshShape& mesh, int64_t rank) {
  ModelSharding sharding;
  sharding.mesh = mesh;
  sharding.rank = rank;
  sharding.sequence_parallel = config.parallel.sequence_parallel;
  for (const ContextChoice choice : context_of_layers(config)) sharding.context.push_back(scheme_of(choice));
  sharding.gather_heads = config.parallel.gather_heads;
  return sharding;
}

}  // namespace farsight
