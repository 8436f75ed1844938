// SPDX-License-Identifier: Apache-2.0
// What every back end of Communicator must do, as functions that all ranks run together; used by the in-process and the
// MPI tests.
#pragma once

#include "parallel/comm.h"

namespace farsight::testing {

void reductions_are_exact_and_ordered(Communicator& world);
void reductions_take_any_size(Communicator& world);
void async_reductions_overlap(Communicator& world);
void everything_in_flight_at_once(Communicator& world);
void every_type_and_operation_is_ordered(Communicator& world);
void nan_survives_max_and_min(Communicator& world);
void broadcast_from_every_root(Communicator& world);
void all_gather_of_uneven_parts(Communicator& world);
void reduce_scatter_is_ordered(Communicator& world);
void all_to_all_of_uneven_parts(Communicator& world);
void messages_keep_their_order(Communicator& world);
void splits_separate_traffic(Communicator& world);
void flight_log_records_operations(Communicator& world);
void waiting_is_counted(Communicator& world);
void errors_become_global(Communicator& world);
void replicas_are_compared(Communicator& world);

}  // namespace farsight::testing
