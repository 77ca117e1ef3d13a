{{/*
Computes everything that templates need to know of the task queues and builds, and refuses values that contradict
each other, all at once. Argument: a dict of root and into, a dict that receives
  queues   list of: key, values, deployment, workload, current, ramping, percentage, builds, and with: the first queue
           with the same Worker Deployment and task queue, if there is one before
  builds   the builds of all of them: see temporal-fleet.build
*/}}
{{- define "temporal-fleet.fleet" -}}
{{- $root := .root -}}
{{- $fleet := .into -}}
{{- $_ := set $fleet "queues" list -}}
{{- $_ = set $fleet "builds" list -}}
{{- $_ = set $fleet "problems" list -}}
{{- range $key, $values := $root.Values.queues -}}
{{- if $values -}}
{{- include "temporal-fleet.queue" (dict "root" $root "fleet" $fleet "key" $key "own" $values) -}}
{{- else if kindIs "map" $values -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': it has no builds; name one, such as builds: {blue: {buildId: \"1.0.0\"}}, or remove the queue with %s: null" $key $key)) -}}
{{- end -}}
{{- end -}}
{{- include "temporal-fleet.validate" (dict "root" $root "fleet" $fleet) -}}
{{- end -}}

{{/*
Merges values over values into a new dict. Maps are merged key by key, except those that only make sense as a whole:
nothing could be taken out of those by merging. Of these, null is nothing given. Argument: a dict of base, over and into, which receives values.
*/}}
{{- define "temporal-fleet.merge" -}}
{{- $over := .over -}}
{{- $merged := mustMergeOverwrite (deepCopy .base) (deepCopy $over) -}}
{{- range $key := list "nodeSelector" "affinity" "podSecurityContext" "securityContext" "strategy" -}}
{{- $_ := set $merged $key (kindIs "invalid" (index $over $key) | ternary (index $.base $key) (index $over $key)) -}}
{{- end -}}
{{- range $map := list "settings" "env" "secretEnv" -}}
{{- $kept := dict -}}
{{- range $key, $value := get $merged $map -}}
{{- if not (kindIs "invalid" $value) }}{{- $_ := set $kept $key $value -}}{{- end -}}
{{- end -}}
{{- $_ := set $merged $map $kept -}}
{{- end -}}
{{- range $kind := list "requests" "limits" -}}
{{- $amounts := get $merged.resources $kind -}}
{{- range $resource, $amount := $amounts -}}
{{- if kindIs "invalid" $amount }}{{- $_ := unset $amounts $resource -}}{{- end -}}
{{- end -}}
{{- if not $amounts }}{{- $_ := unset $merged.resources $kind -}}{{- end -}}
{{- end -}}
{{- $_ := set .into "values" $merged -}}
{{- end -}}

{{/*
Adds one task queue to the fleet. Argument: a dict of root, fleet, key and own, its values.
*/}}
{{- define "temporal-fleet.queue" -}}
{{- $root := .root -}}
{{- $fleet := .fleet -}}
{{- $key := .key -}}
{{- include "temporal-fleet.check-placement" (dict "fleet" $fleet "key" $key "own" .own "defaults" $root.Values.queueDefaults) -}}
{{- $merge := dict -}}
{{- include "temporal-fleet.merge" (dict "base" $root.Values.queueDefaults "over" (omit .own "builds") "into" $merge) -}}
{{- $values := $merge.values -}}
{{- $builds := dict -}}
{{- range $buildKey, $own := .own.builds -}}
{{- if not (kindIs "invalid" $own) }}{{- $_ := set $builds $buildKey $own -}}{{- end -}}
{{- end -}}
{{- $current := $values.routing.current -}}
{{- if and (not $current) (eq (len $builds) 1) -}}
{{- $current = keys $builds | first -}}
{{- end -}}
{{- $with := dict -}}
{{- range $other := $fleet.queues -}}
{{- $same := and (eq .deployment ($values.deploymentName | default $key)) (eq .values.taskQueue $values.taskQueue) -}}
{{- if and $same $values.taskQueue (not $with) }}{{ $with = $other }}{{ end -}}
{{- end -}}
{{- $queue := dict
  "key" $key
  "with" $with
  "values" $values
  "deployment" ($values.deploymentName | default $key)
  "workload" ($values.workload | default $key)
  "current" $current
  "ramping" $values.routing.ramping
  "percentage" $values.routing.percentage
  "builds" list
-}}
{{- range $buildKey, $own := $builds -}}
{{- $into := dict -}}
{{- include "temporal-fleet.build" (dict "root" $root "queue" $queue "key" $buildKey "own" $own "into" $into) -}}
{{- $_ := set $queue "builds" (append $queue.builds $into.build) -}}
{{- $_ = set $fleet "builds" (append $fleet.builds $into.build) -}}
{{- end -}}
{{- $_ := set $fleet "queues" (append $fleet.queues $queue) -}}
{{- end -}}

{{/*
Describes one build of a task queue. Argument: a dict of root, queue, key, own (its values) and into, which
receives build, a dict of
  root, queue, key, values   where it comes from; values are merged
  id, versioned              its build ID, and whether Temporal routes by it
  name                       name of its objects
  deployment, workload       Worker Deployment in Temporal, and what `fleet worker` runs
  role                       current, ramping or idle
  floor                      fewest replicas that an autoscaler may leave
  scaler                     hpa, keda, absent (KEDA is wanted and not there) or nothing
  drain, grace               seconds until the process has ended itself, and until it is killed
  port                       health port
  repository, image          where its image is, without a registry, and the whole reference
  config                     variables of its ConfigMap
  referring                  those that refer to others, which Kubernetes resolves in `env` only
*/}}
{{- define "temporal-fleet.build" -}}
{{- $root := .root -}}
{{- $queue := .queue -}}
{{- $own := .own -}}
{{- $merge := dict -}}
{{- include "temporal-fleet.merge" (dict "base" $queue.values "over" (omit $own "buildId" "versioned") "into" $merge) -}}
{{- $values := $merge.values -}}
{{- $role := "idle" -}}
{{- if eq .key (toString $queue.current) }}{{- $role = "current" -}}
{{- else if eq .key (toString $queue.ramping) }}{{- $role = "ramping" -}}{{- end -}}
{{- $scaling := $values.autoscaling -}}
{{- $scaler := "" -}}
{{- if $scaling.enabled -}}
{{- $scaler = $scaling.engine -}}
{{- if and (eq $scaler "keda") (not (include "temporal-fleet.has-api" (list $root "keda.sh/v1alpha1"))) -}}
{{- $scaler = "absent" -}}
{{- end -}}
{{- end -}}
{{- $floor := int $values.replicas -}}
{{- if $scaler -}}
{{- $floor = ternary $scaling.drainingMinReplicas $scaling.minReplicas (eq $role "idle") | int -}}
{{- /* Without its autoscaler, nobody would wake a build that has no workers. */ -}}
{{- if eq $scaler "absent" }}{{- $floor = max 1 $floor | int -}}{{- end -}}
{{- end -}}
{{- $drain := addf (dig "drainTimeoutSeconds" 30 $values.settings) (dig "drainMarginSeconds" 10 $values.settings) | ceil | int -}}
{{- $id := kindIs "invalid" $own.buildId | ternary "" (include "temporal-fleet.text" $own.buildId) -}}
{{- $workload := $values.workload | default $queue.key -}}
{{- $build := dict
  "root" $root
  "queue" $queue.key
  "key" .key
  "values" $values
  "id" $id
  "versioned" (dig "versioned" true $own)
  "name" (include "temporal-fleet.join" (list (include "temporal-fleet.fullname" $root) $queue.key .key))
  "deployment" $queue.deployment
  "workload" $workload
  "role" $role
  "floor" $floor
  "scaler" $scaler
  "drain" $drain
  "port" (dig "healthPort" 8080 $values.settings | int)
-}}
{{- /* The kubelet's clock starts before the process has its signal: the reserve lets the process end itself first. */ -}}
{{- $grace := $values.terminationGracePeriodSeconds -}}
{{- $_ := set $build "grace" (kindIs "invalid" $grace | ternary (add $drain 5) $grace | int) -}}
{{- $names := dict "workload" $workload "queue" $queue.key "build" .key "buildId" $id "Template" $root.Template -}}
{{- $_ = set $build "repository" (tpl ($values.image.repository | default "") $names) -}}
{{- $_ = set $build "image" (include "temporal-fleet.image" (dict "image" $values.image "tag" $id "names" $names)) -}}
{{- $config := dict -}}
{{- $referring := dict -}}
{{- range $name, $text := include "temporal-fleet.config" $build | fromJson -}}
{{- $_ = set (contains "$(" $text | ternary $referring $config) $name $text -}}
{{- end -}}
{{- $_ = set $build "config" $config -}}
{{- $_ = set $build "referring" $referring -}}
{{- $_ = set .into "build" $build -}}
{{- end -}}

{{/*
Variables that configure a build, as JSON: connection, identity and settings. Argument: a build.
*/}}
{{- define "temporal-fleet.config" -}}
{{- $config := include "temporal-fleet.connection-env" .root | fromJson -}}
{{- $_ := set $config "FLEET_DEPLOYMENT_NAME" .deployment -}}
{{- $_ = set $config "FLEET_DEPLOYMENT_BUILD_ID" .id -}}
{{- $_ = set $config "FLEET_DEPLOYMENT_VERSIONING" (toString .versioned) -}}
{{- with .values.taskQueue }}{{- $_ = set $config "FLEET_WORKER_TASK_QUEUE" . -}}{{- end -}}
{{- if .values.secretFiles }}{{- $_ = set $config "FLEET_SECRETS_DIR" "/etc/fleet/secrets" -}}{{- end -}}
{{- with .root.Values.temporal.codec -}}
{{- if .secretName }}{{- $_ = set $config "FLEET_CODEC_KEYS_DIRECTORY" "/etc/fleet/codec-keys" -}}{{- end -}}
{{- with .encryptionKeyId }}{{- $_ = set $config "FLEET_CODEC_ENCRYPTION_KEY_ID" . -}}{{- end -}}
{{- end -}}
{{- range $name, $value := .values.settings -}}
{{- $_ = set $config (include "temporal-fleet.variable" $name) (include "temporal-fleet.text" $value) -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{/*
Name of the variable of a setting: the name of the setting in other letters. Argument: the name of the setting.
*/}}
{{- define "temporal-fleet.variable" -}}
{{- $variable := snakecase . | upper -}}
{{- hasPrefix "TEMPORAL_" $variable | ternary $variable (printf "FLEET_%s" $variable) -}}
{{- end -}}

{{/*
Variables of the connection that are no secrets, as JSON; secrets are mounted as files, which the runtime watches.
Argument: the root.
*/}}
{{- define "temporal-fleet.connection-env" -}}
{{- $temporal := .Values.temporal -}}
{{- $tls := $temporal.tls -}}
{{- $config := dict "TEMPORAL_ADDRESS" (include "temporal-fleet.address" .) "TEMPORAL_NAMESPACE" $temporal.namespace -}}
{{- if kindIs "bool" $tls.enabled }}{{- $_ := set $config "TEMPORAL_TLS" (toString $tls.enabled) -}}{{- end -}}
{{- with $tls.serverName }}{{- $_ := set $config "TEMPORAL_TLS_SERVER_NAME" . -}}{{- end -}}
{{- if $tls.ca.secretName }}{{- $_ := set $config "TEMPORAL_TLS_SERVER_CA_CERT_PATH" (printf "/etc/fleet/tls-ca/%s" $tls.ca.key) -}}{{- end -}}
{{- if $tls.client.secretName -}}
{{- $_ := set $config "TEMPORAL_TLS_CLIENT_CERT_PATH" (printf "/etc/fleet/tls-client/%s" $tls.client.certKey) -}}
{{- $_ = set $config "TEMPORAL_TLS_CLIENT_KEY_PATH" (printf "/etc/fleet/tls-client/%s" $tls.client.keyKey) -}}
{{- end -}}
{{- with $temporal.apiKey.secretName }}{{- $_ := set $config "TEMPORAL_API_KEY_FILE" (printf "/etc/fleet/api-key/%s" $temporal.apiKey.key) -}}{{- end -}}
{{- range $name, $value := $temporal.env -}}
{{- if not (kindIs "invalid" $value) }}{{- $_ := set $config $name (include "temporal-fleet.text" $value) -}}{{- end -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{/*
What templates inside values may name. Argument: a build.
*/}}
{{- define "temporal-fleet.names-of-build" -}}
{{- dict "queue" .queue "build" .key "buildId" .id "deploymentName" .deployment "workload" .workload "name" .name "image" .image "taskQueue" .values.taskQueue | toJson -}}
{{- end -}}

{{/*
Evaluates the templates inside a value of a build and returns it as YAML. Argument: a list of the build and the value.
*/}}
{{- define "temporal-fleet.evaluate" -}}
{{- $build := first . -}}
{{- $names := include "temporal-fleet.names-of-build" $build | fromJson -}}
{{- tpl (toYaml (last .)) (merge $names (dict "Values" $build.root.Values "Release" $build.root.Release "Chart" $build.root.Chart "Template" $build.root.Template)) -}}
{{- end -}}
