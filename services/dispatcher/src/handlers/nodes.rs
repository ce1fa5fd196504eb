//! The processes of the store.

use http::StatusCode;
use nacre_api::{NodeBody, NodesBody};
use nacre_fleet::{Member, NodeState, Role};
use nacre_types::Result;

use crate::answer::Answer;
use crate::call::Call;
use crate::reads::Reads;

/// The processes that are registered, as this one knows them from their heartbeats.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "Operations",
    responses((status = 200, body = NodesBody, description = "All of them.")))]
pub(crate) async fn list(call: &mut Call<'_>) -> Result<Answer> {
    call.finish_query()?;
    let own = call.app.node.process();
    let nodes = match &call.app.reads {
        Reads::Here => vec![NodeBody {
            id: own.to_string(),
            name: String::new(),
            roles: Role::ALL.iter().map(|role| role.name().to_owned()).collect(),
            address: String::new(),
            zone: String::new(),
            weight: 1,
            state: "serving".to_owned(),
            is_self: true,
        }],
        Reads::Fleet(fleet, _) => {
            fleet.members().all().iter().map(|member| body(member, member.id() == own)).collect()
        }
    };
    let partitions_at_risk = match &call.app.reads {
        Reads::Here => 0,
        Reads::Fleet(fleet, _) => fleet.partitions_at_risk().await as u64,
    };
    Ok(Answer::json(StatusCode::OK, &NodesBody { nodes, partitions_at_risk }))
}

fn body(member: &Member, is_self: bool) -> NodeBody {
    NodeBody {
        id: member.id().to_string(),
        name: member.name.clone(),
        roles: member.roles.iter().map(|role| role.name().to_owned()).collect(),
        address: member.address.clone(),
        zone: member.node.zone.clone(),
        weight: member.node.weight,
        state: match member.node.state {
            NodeState::Joining => "joining",
            NodeState::Serving => "serving",
            NodeState::Leaving => "leaving",
        }
        .to_owned(),
        is_self,
    }
}
