// SPDX-License-Identifier: Apache-2.0
#include "trainer/task.h"

#include <algorithm>

#include "trainer/forecast/forecast_task.h"
#include "trainer/language_task.h"

namespace farsight {

std::unique_ptr<Task> make_task(const Config& config, const DatasetFiles& files, const std::string& where) {
  if (config.task.kind == TaskKind::forecast) return std::make_unique<ForecastTask>(config, files, where);
  return std::make_unique<LanguageTask>(config, files, where);
}

StreamPlan validation_plan(const TaskPlace& place, int64_t samples, const Config& config) {
  StreamPlan plan;
  plan.shuffle = Shuffle::none;
  plan.global_batch = place.layout.data * place.layout.micro_batch;
  plan.sample_limit = samples;
  if (config.eval.batches > 0) plan.sample_limit = std::min(samples, config.eval.batches * config.train.batch_samples);
  plan.data_ranks = place.layout.data;
  plan.data_rank = place.mesh.coordinate().dp;
  plan.micro_batch = place.layout.micro_batch;
  return plan;
}

}  // namespace farsight
